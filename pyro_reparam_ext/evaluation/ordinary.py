"""The ordinary run of the guide: every site sampled as its estimator says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.provenance import (
    ProvenanceTensor,
    detach_provenance,
    extract_provenance,
    get_provenance,
)
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor, nn

from ..errors import EstimatorError
from ..estimators.base import Draw, Estimator, Site
from ..estimators.enumeration import Enumeration
from .control_flow import ControlFlow
from .discrete import log_prob as exact_log_prob
from .terms import Term, left_padded, log_prob_of
from .unwrap import coordinates, is_masked, num_coordinate_dims, sum_rightmost

Resolve: TypeAlias = Callable[[dict[str, Any]], Estimator]
StateOf: TypeAlias = Callable[[str, Estimator, Tensor], nn.Module | None]


def is_tracked(estimator: Estimator, vectorized: bool) -> bool:
    """Whether the costs that depend on a site have to be found by provenance.

    Where values lie along a dim of their own, that dim tells.
    """
    return estimator.uses_cost or (isinstance(estimator, Enumeration) and not vectorized)


class OrdinaryRun(TraceMessenger):
    """Samples the latent sites of a guide by their estimators, and traces it.

    An enumerated site takes all values of its support at once, on a new dim left of all others; or,
    where programs run in a loop (``plate_dims`` is None), the value numbered in ``path``. ``track``:
    whether values carry their provenance, by which the costs that depend on them are found.
    """

    def __init__(
        self, resolve: Resolve, plate_dims: int | None, path: Mapping[str, int], track: bool
    ) -> None:
        super().__init__()
        self.resolve = resolve
        self.plate_dims = plate_dims
        self.path = dict(path)
        self.track = track
        self.tracked: set[str] = set()
        self.control = ControlFlow()
        self.controlled_by: dict[str, frozenset[str]] = {}
        self.estimators: dict[str, Estimator] = {}
        self.draws: dict[str, Draw] = {}
        self.support_sizes: dict[str, int] = {}

    @property
    def vectorized(self) -> bool:
        return self.plate_dims is not None

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if site_is_subsample(message) or not isinstance(message["fn"], TorchDistributionMixin):
            return
        name, fn = message["name"], message["fn"]
        if 0 in fn.batch_shape + fn.event_shape and not site_is_factor(message):
            raise EstimatorError(
                f"site '{name}': its distribution has shape {tuple(fn.shape())}, which is empty; "
                f"expected at least one element in every plate. Skip empty batches of data."
            )
        estimator = self.resolve(message)
        self.estimators[name] = estimator
        self.controlled_by[name] = self.control.sites
        if message["is_observed"] or message["done"]:
            self.draws[name] = Draw(message["value"])
            return
        draw = self._enumerate(message, estimator) if isinstance(estimator, Enumeration) else None
        draw = draw or estimator.draw(fn)
        # The program gets the value with the provenance of what it was drawn from, estimators without.
        self.draws[name] = draw.map(detach_provenance) if self.tracked else draw
        message["value"] = draw.value
        if self.track and is_tracked(estimator, self.vectorized):
            message["value"] = self.control.track(draw.value, frozenset([name]))
            self.tracked.add(name)
        message["done"] = True

    def _enumerate(self, message: dict[str, Any], estimator: Enumeration) -> Draw:
        name, fn = message["name"], message["fn"]
        joint = torch.Size(self.support_sizes.values()).numel()
        support = estimator.support(name, fn, joint)
        left = len(self.support_sizes)
        self.support_sizes[name] = len(support)
        if self.plate_dims is None:
            value = support[self.path.setdefault(name, 0)]
            return Draw(value.expand(fn.shape()))
        ones = (1,) * (self.plate_dims + left)
        return Draw(support.reshape((len(support),) + ones + fn.event_shape))


@dataclass(frozen=True, eq=False)
class OrdinaryGuide:
    """What the ordinary run of the guide left: its trace, its sites and their cost terms."""

    trace: Trace
    sites: list[Site]
    terms: list[Term]
    support_sizes: dict[str, int]
    path: dict[str, int]
    tracked: set[str]
    control: ControlFlow


def run_guide(guide: Callable[..., Any], args: tuple, kwargs: dict, messenger: TraceMessenger) -> Trace:
    """The trace of a guide under a messenger, also of a ``GuideMessenger``."""
    with messenger:
        guide(*args, **kwargs)
    unwrapped = poutine.unwrap(guide)
    if not isinstance(unwrapped, GuideMessenger):
        return messenger.trace
    model_trace, guide_trace = unwrapped.get_traces()
    for name, node in model_trace.nodes.items():
        if node["type"] == "sample" and site_is_subsample(node) and name not in guide_trace:
            guide_trace.add_node(name, **node.copy())
    return guide_trace


def ordinary_guide(
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    messenger: OrdinaryRun,
    state: StateOf,
) -> OrdinaryGuide:
    """Runs the guide once and collects its sites in the order they were sampled."""
    trace = run_guide(guide, args, kwargs, messenger)
    sites, terms = [], []
    for name, node in trace.nodes.items():
        if node["type"] != "sample" or site_is_subsample(node):
            continue
        estimator, draw, fn = messenger.estimators[name], messenger.draws[name], node["fn"]
        upstream: frozenset[str] | None = frozenset() if messenger.track else None
        if messenger.tracked:
            # The value itself is scored without provenance, which would slow every operation down.
            fn, inherited = without_provenance(fn)
            upstream = inherited | (messenger.tracked & {name})
        log_prob, score = scored(name, estimator, fn, draw)
        if messenger.tracked:  # what a distribution keeps in closures is left
            upstream |= get_provenance(log_prob) | messenger.controlled_by[name]
            log_prob, score = detach_provenance(log_prob), detach_provenance(score)
        term = Term.of_guide(node, log_prob, score, upstream)
        site = Site(
            name=name,
            fn=fn,
            draw=draw,
            log_prob=score,
            estimator=estimator,
            state=state(name, estimator, log_prob),
            frames=frozenset(term.frames),
            infer=node["infer"],
            observed=node["is_observed"],
        )
        sites.append(site)
        terms.append(term)
    return OrdinaryGuide(
        trace,
        sites,
        terms,
        messenger.support_sizes,
        messenger.path,
        messenger.tracked,
        messenger.control,
    )


def without_provenance(x: Any, inside: frozenset[int] = frozenset()) -> tuple[Any, frozenset[str]]:
    """A distribution with plain tensors for parameters, and the provenance that these had.

    Looks into the distributions, transforms and lists that it is made of, except those that it is
    already ``inside`` of: a transform and its inverse know each other.
    """
    if isinstance(x, ProvenanceTensor):
        return extract_provenance(x)
    if type(x) in (list, tuple):
        cleaned = [without_provenance(part, inside) for part in x]
        provenance = frozenset().union(*(inherited for _, inherited in cleaned))
        return (type(x)(part for part, _ in cleaned) if provenance else x), provenance
    parts = (torch.distributions.Distribution, torch.distributions.Transform)
    if not isinstance(x, parts) or isinstance(x, nn.Module) or id(x) in inside:
        return x, frozenset()
    clean, provenance = {}, frozenset()
    for key, attribute in vars(x).items():
        clean[key], inherited = without_provenance(attribute, inside | {id(x)})
        provenance |= inherited
    if not provenance:
        return x, provenance
    x = copy(x)
    vars(x).update(clean)
    return x, provenance


def scored(name: str, estimator: Estimator, fn: TorchDistribution, draw: Draw) -> tuple[Tensor, Tensor]:
    """The log density of a draw at a guide site, and the same without the masks in ``fn``.

    A masked value costs nothing but is sampled all the same: its score counts.
    """
    log_prob = log_prob_of(name, lambda: estimator.guide_log_prob(fn, draw))
    if not is_masked(fn) or estimator.differentiable:
        return log_prob, log_prob
    score = exact_log_prob(coordinates(fn), draw.value)
    return log_prob, sum_rightmost(score, num_coordinate_dims(fn))


def padded(site: Site, batch_dims: int) -> Site:
    """The same site with ``batch_dims`` batch dims, new ones of size 1 on the left."""
    missing = batch_dims - len(site.fn.batch_shape)
    if missing <= 0:
        return site
    dims = batch_dims + len(site.fn.event_shape)
    return replace(
        site,
        fn=site.fn.expand(torch.Size((1,) * missing) + site.fn.batch_shape),
        draw=site.draw.map(lambda x: left_padded(x, dims)),
        log_prob=left_padded(site.log_prob, batch_dims),
    )
