"""The ordinary run of the guide: every site sampled as its estimator says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from pyro import poutine
from pyro.distributions import Delta, TorchDistribution
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor, nn

from ..distributions.rules.discrete import log_prob as exact_log_prob
from ..distributions.rules.wrappers import (
    coordinates,
    innermost,
    is_masked,
    num_coordinate_dims,
    sum_rightmost,
)
from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..estimators.protocol import Draw, Site
from ..noise import NoiseSource, noise_of
from ..numerics.leaf import leaf
from .at_once import is_at_once
from .axes import Visible
from .control_flow import ControlFlow, provenance_of, untracked
from .held import Held, held_distributions, held_log_prob, other_run, run_at_copies, viewed
from .held_in_place import held_in_place
from .recorder import Recorder
from .terms import Term, left_padded, log_prob_of

Resolve: TypeAlias = Callable[[dict[str, Any]], Estimator]
StateOf: TypeAlias = Callable[[Site], nn.Module | None]


def is_tracked(estimator: Estimator, vectorized: bool) -> bool:
    """Whether the costs that depend on a site have to be found by provenance.

    Where values lie along a dim of their own, that dim tells.
    """
    return estimator.uses_cost or (is_at_once(estimator) and not vectorized)


class OrdinaryRun(Recorder):
    """Samples the latent sites of a guide by their estimators, and traces it.

    An enumerated site takes all values of its support at once, on a new dim left of all others; or,
    where programs run in a loop (``plate_dims`` is None), the value numbered in ``path``. ``track``:
    whether values carry their provenance, by which the costs that depend on them are found. ``source``:
    of the noise of all sites. ``indices``: of sub-sampled plates, that are given and not drawn.
    """

    def __init__(
        self,
        resolve: Resolve,
        plate_dims: int | None,
        path: Mapping[str, int],
        track: bool,
        axes: Visible,
        source: NoiseSource,
        indices: Mapping[str, Any],
    ) -> None:
        super().__init__(axes, ControlFlow(), tracking=False)
        self.indices = indices
        self.resolve = resolve
        self.plate_dims = plate_dims
        self.path = dict(path)
        self.track = track
        self.source = source
        self.tracked: set[str] = set()
        self.controlled_by: dict[str, frozenset[str]] = {}
        self.estimators: dict[str, Estimator] = {}
        self.draws: dict[str, Draw] = {}
        self.support_sizes: dict[str, int] = {}

    @property
    def vectorized(self) -> bool:
        return self.plate_dims is not None

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        name = message["name"]
        if (0 in fn.batch_shape or 0 in fn.event_shape) and not site_is_factor(message):
            raise EstimatorError(
                f"site '{name}': its distribution has shape {tuple(fn.shape())}, which is empty; "
                f"expected at least one element in every plate. Skip empty batches of data."
            )
        estimator = self.estimators[name] = self.resolve(message)
        self.controlled_by[name] = self.control.sites
        if message["is_observed"] or message["done"]:
            self.draws[name] = Draw(self.axes.shown_value(message["value"], message["fn"]))
            return frozenset()
        if estimator.enumerated:
            draw = self._enumerate(message, fn, estimator)
        else:
            with noise_of("site", name):
                draw = estimator.draw(fn, self.source)
        # The program gets the value with the provenance of what it was drawn from, estimators without.
        upstream = provenance_of(draw.value)
        if self.tracking:
            upstream |= self.upstream[name]
            draw = draw.map(untracked)
        self.draws[name] = draw
        self.give(message, draw.value)
        if self.track and is_tracked(estimator, self.vectorized):
            upstream |= {name}
            self.tracked.add(name)
            self.tracking = True
        return upstream

    def subsample(self, message: dict[str, Any]) -> None:
        if message["value"] is None and message["name"] in self.indices:
            message["value"], message["done"] = self.indices[message["name"]], True
        else:
            super().subsample(message)

    def _enumerate(self, message: dict[str, Any], fn: TorchDistribution, estimator: Estimator) -> Draw:
        name = message["name"]
        joint = torch.Size(self.support_sizes.values()).numel()
        support = estimator.support(name, fn, joint)
        left = len(self.support_sizes)
        self.support_sizes[name] = len(support)
        if self.plate_dims is None:
            value = support[self.path.setdefault(name, 0)]
            return Draw(value.expand(fn.shape()))
        self.axes.enumerated(len(support))
        ones = (1,) * (self.plate_dims + left)
        return Draw(support.reshape((len(support),) + ones + fn.event_shape))


@dataclass(eq=False)
class OrdinaryGuide:
    """Results of the ordinary run of the guide: its trace, its sites and their cost terms.

    ``trace`` is what the guide itself saw, ``nodes`` has its sample sites with all dims, ``held`` the
    distributions of those whose estimators hold the guide's parameters.
    """

    trace: Trace
    nodes: dict[str, dict[str, Any]]
    sites: list[Site]
    terms: list[Term]
    support_sizes: dict[str, int]
    path: dict[str, int]
    tracked: set[str]
    control: ControlFlow
    source: NoiseSource
    held: Mapping[str, Held] = field(default_factory=dict)


def run_guide(guide: Callable[..., Any], args: tuple, kwargs: dict, recorder: Recorder) -> Trace:
    """The trace of a guide under a recorder, also of a ``GuideMessenger``."""
    with recorder, recorder.axes.running():
        guide(*args, **kwargs)
    unwrapped = poutine.unwrap(guide)
    if not isinstance(unwrapped, GuideMessenger):
        return recorder.trace
    model_trace, guide_trace = unwrapped.get_traces()
    for name, node in model_trace.nodes.items():
        if node["type"] == "sample" and site_is_subsample(node) and name not in guide_trace:
            guide_trace.add_node(name, **node.copy())
    return guide_trace


def ordinary_guide(
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    run: OrdinaryRun,
    state: StateOf,
) -> OrdinaryGuide:
    """Runs the guide once and collects its sites in the order they were sampled."""
    trace = run_guide(guide, args, kwargs, run)
    sites, terms = [], []
    again = partial(run_guide, guide, args, kwargs)
    latent = {name: e for name, e in run.estimators.items() if not run.nodes[name]["is_observed"]}
    functions: set[str] = set()
    if any(estimator.holds_guide_parameters for estimator in latent.values()):
        functions = {name for name in latent if isinstance(innermost(run.nodes[name]["fn"]), Delta)}
    # What a function of other values has as its log density is no score, whose mean would be zero.
    sampled = {name: e for name, e in latent.items() if name not in functions}
    scored_held = [name for name, estimator in sampled.items() if estimator.holds_guide_parameters]
    copies = _copies(run, latent, functions)
    at_copies: Recorder = run
    if copies:
        scored_held = [name for name, e in sampled.items() if not e.noiseless_entropy]
        at_copies, trace = run_at_copies(copies, again, run, trace)
    plain: dict[str, tuple[Tensor, Tensor]] = {}
    asked: dict[str, Tensor] = {}
    held: dict[str, Held] = {}
    if scored_held and not (copies or run.tracked) and torch.is_grad_enabled():
        plain = {x: scored(x, run.estimators[x], run.nodes[x]["fn"], run.draws[x]) for x in scored_held}
        scores = {name: log_prob for name, (log_prob, _) in plain.items()}
        in_place = held_in_place(scored_held, run.estimators, run.nodes, run.draws, scores)
        for name, law, log_prob in in_place:
            held[name], asked[name] = law, log_prob
    run_again = [name for name in scored_held if name not in held]
    held |= held_distributions(run_again, again, at_copies, trace, copies)
    for name in trace.nodes:
        if name not in run.draws:
            continue
        estimator, draw, node = run.estimators[name], run.draws[name], run.nodes[name]
        if name in copies:
            draw = Draw(copies[name], noise=draw.value)
        elif copies and name in functions:
            node = at_copies.nodes[name]
            draw = Draw(node["value"])
        upstream: frozenset[str] | None = frozenset() if run.track else None
        by_copy_alone = name in copies and not run.tracked
        if not by_copy_alone:
            log_prob, score = plain.get(name) or scored(name, estimator, node["fn"], draw)
        if run.tracked:  # what a distribution keeps in closures is left
            upstream = run.upstream.get(name, frozenset()) | (run.tracked & {name})
            upstream |= provenance_of(log_prob) | run.controlled_by[name]
            log_prob, score = untracked(log_prob), untracked(score)
        if name in asked:
            log_prob = asked[name]
        elif name in held:
            again_scored = held_log_prob(name, estimator, held[name], viewed(draw))
            if run.track and not (by_copy_alone or _same(again_scored, log_prob)):
                raise other_run(name)  # by a generator of its own
            log_prob = again_scored
            score = log_prob if by_copy_alone else score
        score_term: Tensor | None = None
        if estimator.adds_score and name in held:
            free = score  # that of the ordinary run, which may move with other values than copies
            if copies:
                at_copy = at_copies.nodes[name]["fn"]
                free = untracked(log_prob_of(name, estimator.guide_log_prob, at_copy, draw))
            score_term = Term.of_guide(node, free - log_prob, score).log_prob
        term = Term.of_guide(node, log_prob, score, upstream)
        site = Site(
            name=name,
            fn=node["fn"],
            draw=draw,
            log_prob=score,
            estimator=estimator,
            plates=frozenset(term.plates),
            infer=node["infer"],
            observed=node["is_observed"],
            score_term=score_term,
            particle_dim=run.source.particle_dim,
        )
        site.state = state(site)
        sites.append(site)
        terms.append(term)
    return OrdinaryGuide(
        trace,
        run.nodes,
        sites,
        terms,
        run.support_sizes,
        run.path,
        run.tracked,
        run.control,
        run.source,
        held,
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.detach(), b.detach(), rtol=1e-3, atol=1e-3, equal_nan=True)


def _copies(
    run: OrdinaryRun, latent: Mapping[str, Estimator], functions: Collection[str]
) -> dict[str, Tensor]:
    """By name, copies of the values of sites that are to be scored at one."""
    if not torch.is_grad_enabled():
        return {}
    names = [name for name, estimator in latent.items() if estimator.scored_at_copy]
    copies = {name: leaf(x, x) for name in names if (x := run.draws[name].value).requires_grad}
    if all(latent[name].needs_mean for name in copies):  # derivatives of a mean add up
        return copies
    for name, estimator in latent.items():
        if estimator.differentiable and not (estimator.scored_at_copy or name in functions):
            raise EstimatorError(
                f"site '{name}': {type(estimator).__name__} differentiates through the value, and in "
                f"another way {type(latent[names[0]]).__name__} does so at site '{names[0]}'; "
                f"expected one of them, or an estimator of sampled values. Configure no estimator for "
                f"'{name}', or set gradient='pathwise' in the ELBO."
            )
    return copies


def is_copied(site: Site) -> bool:
    """Whether a site is scored at a copy of its value, beside which it keeps the value itself."""
    return site.estimator.scored_at_copy and site.draw.noise is not None


def scored(name: str, estimator: Estimator, fn: TorchDistribution, draw: Draw) -> tuple[Tensor, Tensor]:
    """The log density of a draw at a guide site, and the same without the masks in ``fn``.

    A masked value costs nothing but is sampled all the same: its score counts.
    """
    log_prob = log_prob_of(name, estimator.guide_log_prob, fn, draw)
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
    draw = site.draw.map(lambda x: left_padded(x, dims))
    if site.draw.noise is not None:  # it may have more dims than a value
        draw.noise = site.draw.noise[(None,) * missing]
    return replace(
        site,
        traced=site.fn,
        fn=site.fn.expand(torch.Size((1,) * missing) + site.fn.batch_shape),
        draw=draw,
        log_prob=left_padded(site.log_prob, batch_dims),
        score_term=None if site.score_term is None else left_padded(site.score_term, batch_dims),
    )
