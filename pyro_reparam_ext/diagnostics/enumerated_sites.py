r"""Sites that training sums out: their probabilities given what the guide draws.

With :math:`k` the enumerated sites of the model and :math:`z_s` a draw of the guide, those of
:math:`p(k_i \mid z_s, x)`, with the other enumerated sites summed out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer import TraceEnum_ELBO
from pyro.poutine.trace_struct import Trace
from tqdm.auto import tqdm

from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from .guide_draws import Latent, Law
from .summaries import probabilities

CHUNK = 127
"""Draws at once: a prime, so that no dim of a program is as large by chance."""
CHECKED = 2
"""Draws at which a run of many is compared with runs of one."""
SERVED = (dist.Bernoulli, dist.Categorical, dist.OneHotCategorical)
"""Distributions that TraceEnum_ELBO finds the probabilities of."""


def enumerated_sites(
    model: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    trace: Trace,
    names: list[str],
    draws: Mapping[str, Latent],
    nesting: int,
    progress: bool,
) -> dict[str, Latent]:
    """The enumerated sites with their laws given each draw of the others.

    Args:
        trace: of a plain run of the model.
        names: of the enumerated sites.
        draws: the sites that the guide draws.
        nesting: how many dims plates take.

    Raises:
        EstimatorError: a site is of a distribution that is not served.
    """
    for name in names:
        if not isinstance(innermost(trace.nodes[name]["fn"]), SERVED):
            raise EstimatorError(
                f"site '{name}': it is enumerated in training and the guide does not draw it; expected "
                f"one of {', '.join(cls.__name__ for cls in SERVED)}, whose probabilities given the "
                f"others are known, was given {type(trace.nodes[name]['fn']).__name__}. Infer it by "
                f"pyro.infer.infer_discrete, or hide it by poutine.block(model, hide=[{name!r}])."
            )
    given = _Given(model, args, kwargs, trace, draws, nesting)
    shapes = {name: trace.nodes[name]["value"].shape for name in names}
    laws: dict[str, list[Law]] = {name: [] for name in names}
    with tqdm(total=given.count, desc="enumerated", disable=None if progress else True) as bar:
        for stop, found in _laws(given, shapes):
            for name in names:
                laws[name].append(found[name])
            bar.update(stop - bar.n)
    return {
        name: Latent(name, torch.zeros(given.count, *shapes[name]), discrete=True, laws=laws[name])
        for name in names
    }


def depend_on_enumerated(
    model: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    trace: Trace,
    computed: Mapping[str, Latent],
    draws: Mapping[str, Latent],
    nesting: int,
) -> set[str]:
    """The computed sites that have another value for each value of an enumerated one."""
    given = _Given(model, args, kwargs, trace, draws, nesting)
    run = poutine.trace(poutine.enum(given.alone(0), first_available_dim=-1 - nesting))
    nodes = run.get_trace(*args, **kwargs).nodes
    return {name for name, site in computed.items() if nodes[name]["value"].numel() != _size(site)}


def _size(site: Latent) -> int:
    return site.shape.numel()


class _Given:
    """A model conditioned on draws of a guide, on one or on many at once."""

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple,
        kwargs: dict,
        trace: Trace,
        draws: Mapping[str, Latent],
        nesting: int,
    ) -> None:
        self.model, self.args, self.kwargs, self.nesting = model, args, kwargs, nesting
        self.values = {name: site.values.to(trace.nodes[name]["value"]) for name, site in draws.items()}
        self.events = {name: trace.nodes[name]["fn"].event_dim for name in draws}
        self.count = min(map(len, self.values.values()), default=1)

    def alone(self, draw: int) -> Callable[..., Any]:
        """The model given one draw."""
        return poutine.condition(self.model, {name: x[draw] for name, x in self.values.items()})

    def laws_alone(self, draw: int) -> dict[str, Law]:
        found = self._marginals(self.alone(draw), self.nesting)
        return {name: Law(fn, 1, None) for name, fn in found.items()}

    def laws_at_once(self, start: int, stop: int) -> dict[str, Law]:
        """Laws whose draws lie left of the dims of plates."""
        count, dim, data = stop - start, -1 - self.nesting, {}
        for name, x in self.values.items():
            shape = x.shape[1:]
            missing = self.nesting - (len(shape) - self.events[name])
            data[name] = x[start:stop].reshape(count, *(1,) * missing, *shape)
        conditioned = poutine.condition(self.model, data)

        def many(*args: Any, **kwargs: Any) -> None:
            with pyro.plate("_draws", count, dim=dim):
                conditioned(*args, **kwargs)

        found = self._marginals(many, self.nesting + 1)
        return {name: Law(fn, count, dim) for name, fn in found.items()}

    def _marginals(self, model: Callable[..., Any], nesting: int) -> dict[str, TorchDistribution]:
        elbo = TraceEnum_ELBO(max_plate_nesting=nesting)
        found: dict[str, TorchDistribution] = elbo.compute_marginals(
            model, lambda *args, **kwargs: None, *self.args, **self.kwargs
        )
        return found


def _laws(given: _Given, shapes: Mapping[str, torch.Size]) -> Iterator[tuple[int, dict[str, Law]]]:
    """Laws of the draws up to a number, many at once if that gives what one at a time does."""
    size = min(CHUNK, given.count)
    size = size if _can_be_at_once(given, size, shapes) else 1
    for start in range(0, given.count, size):
        stop = min(start + size, given.count)
        yield stop, given.laws_at_once(start, stop) if size > 1 else given.laws_alone(start)


def _can_be_at_once(given: _Given, size: int, shapes: Mapping[str, torch.Size]) -> bool:
    if size < CHECKED:
        return False
    singly = [given.laws_alone(draw) for draw in range(CHECKED)]
    try:
        together = given.laws_at_once(0, size)
        return all(_same(together[name], [x[name] for x in singly], shapes[name]) for name in shapes)
    except (RuntimeError, ValueError, IndexError, TypeError):  # it does not broadcast
        return False


def _same(together: Law, singly: list[Law], shape: torch.Size) -> bool:
    many, ones = probabilities(together, shape), [probabilities(law, shape) for law in singly]
    parts = [one for one in ones if one is not None]
    return many is not None and torch.allclose(many[:CHECKED], torch.cat(parts), atol=1e-4)
