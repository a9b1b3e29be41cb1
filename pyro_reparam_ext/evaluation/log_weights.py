"""The log weights of the particles, with those of single elements of a plate where these are apart.

A bound by several particles is one of the evidence of a whole program, and by the same samples a much
tighter one where the evidence is a product over the elements of a plate: the sum of a bound for each
element, with weights of its own. That is so where every cost lies in the plate, and none depends on
other elements of it than its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import is_masked, log_prob_by
from ..errors import EstimatorError
from ..estimators.protocol import Site
from .at_once import is_at_once
from .axes import PARTICLES
from .costs import Costs
from .terms import Term, scaled_and_masked


@dataclass(eq=False)
class LogWeights:
    """The log weights of all particles.

    ``values`` has the shape ``(particles, *plates)``, of size 1 in plates whose elements have no
    weights of their own. ``scale``: what all costs are multiplied by, which is no part of a weight but
    multiplies the bound: the share of the data that a plate shows.
    """

    values: Tensor
    scale: float = 1.0


def log_weights(runs: Sequence[Costs]) -> LogWeights:
    """The log weights of all particles, at their ordinary values.

    Each of the ``runs`` gets to know the plates whose elements have their own. Differentiable in the
    model's parameters and in what is pathwise. The log density of a value that carries no gradient is
    held: estimators are charged with what its score adds.

    Raises:
        EstimatorError: a site is enumerated; or a plate is sub-sampled whose elements have no weights
            of their own.
    """
    for costs in runs:
        if costs.program.enumerated:
            raise _enumerated(costs)
    terms = [[t for t in costs.passes[0].terms if not _is_silent(costs, t)] for costs in runs]
    own = _own_plates(runs, terms)
    every = [term for of_run in terms for term in of_run]
    scale = _common_scale(every, own)
    parts = [_of_run(costs, of_run, own) for costs, of_run in zip(runs, terms, strict=True)]
    if len({part.shape[1:] for part in parts}) > 1:  # a loop over particles of dynamic structure
        own, scale = frozenset(), _common_scale(every, frozenset())
        parts = [part.reshape(len(part), -1).sum(1) for part in parts]
        dims = max(costs.program.batch_dims for costs in runs)
        parts = [part.reshape(len(part), *(1,) * dims) for part in parts]
    for costs in runs:
        costs.own_weights = own
    values = torch.cat(parts) if len(parts) > 1 else parts[0]
    return LogWeights(values if scale == 1 else values / scale, scale)


def _of_run(costs: Costs, terms: list[Term], own: frozenset[str]) -> Tensor:
    """The log weights of one run, unsummed over the plates ``own``: shape ``(particles, *plates)``."""
    program, total = costs.program, None
    hard = {("guide", site.name) for site in program.sites if not site.estimator.differentiable}
    for term in terms:
        log_prob = term.aligned[0]  # shape: (*batch)
        log_prob = log_prob.detach() if term.key in hard else log_prob
        kept = {dim for name, dim in term.plates.items() if name in own or name == PARTICLES}
        dims = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
        if program.particle_dim is not None and program.particle_dim in dims:
            dims.remove(program.particle_dim)  # of size 1 where all particles have the same
        total = term.added_to(total, log_prob.sum(dims, keepdim=True) if dims else log_prob)
    if total is None:
        return torch.zeros((program.num_particles, *(1,) * program.plate_dims))
    if program.particle_dim is None:
        return -total[None]
    return -total.expand(program.num_particles, *total.shape[1:])


def _own_plates(runs: Sequence[Costs], terms: list[list[Term]]) -> frozenset[str]:
    """The plates that all terms lie in, on one dim, and that none crosses."""
    every = [set(term.plates.items()) for of_run in terms for term in of_run]
    if not every:
        return frozenset()
    crossed = {plate for costs in runs for _, _, plate in costs.program.crossed}
    common = {name for name, _ in set.intersection(*every)}
    return frozenset(common - crossed - {PARTICLES})


def _common_scale(terms: Sequence[Term], own: frozenset[str]) -> float:
    """The scale that all terms have: that of sub-sampled plates among ``own``, and of a handler.

    A scale that is another in another term tempers the weights, as that of a model alone does.
    """
    for term in terms:
        for name, _ in term.subsampled:
            if name not in own:
                raise EstimatorError(
                    f"plate '{name}': it shows a part of its elements, which have no weights of their "
                    f"own: {_reason(terms, name)}. Of a bound by several particles there is no "
                    f"estimate from a part of the data then. Give the plate all of its elements, move "
                    f"every site into it, or use TraceEstimator_ELBO."
                )
    scales = {term.scale for term in terms}
    if len(scales) == 1 and isinstance(scale := scales.pop(), float) and scale > 0:
        return scale
    scale = 1.0
    for _, part in {plate for term in terms for plate in term.subsampled}:
        scale *= part
    return scale


def _reason(terms: Sequence[Term], plate: str) -> str:
    for term in terms:
        if plate not in term.plates:
            return f"{term.side} site '{term.name}' lies outside of it"
    return "a cost depends on other elements than its own"


def times_counted(site: Site, node: Mapping[str, Any], scale: float) -> Tensor | None:
    """How often the log density of a guide's site is a part of the log weight; None: once.

    ``node``: of its trace. ``scale``: what is no part of a weight.

    Raises:
        EstimatorError: the coordinates of an event are masked one by one.
    """
    same = node["mask"] is None and isinstance(node["scale"], float) and node["scale"] == scale
    if same and not is_masked(site.fn):
        return None
    if _masks_coordinates(site.fn):
        raise EstimatorError(
            f"site '{site.name}': its distribution has a mask on the coordinates of an event, each of "
            f"which a bound by several particles would have to count by itself; expected a mask on "
            f"whole events. Mask it after to_event, or use TraceEstimator_ELBO."
        )
    every = torch.ones_like(site.log_prob.detach()).expand(site.fn.batch_shape)
    counted = every * log_prob_by(lambda base: every.new_ones(base.batch_shape), site.fn).clamp(max=1.0)
    return scaled_and_masked(counted, node) / scale


def _masks_coordinates(fn: TorchDistribution) -> bool:
    inside = False
    while is_masked(fn):
        inside = inside or bool(getattr(fn, "reinterpreted_batch_ndims", 0))
        if inside and isinstance(getattr(fn, "_mask", None), Tensor) and fn._mask.numel() > 1:
            return True
        fn = fn.base_dist
    return False


def _is_silent(costs: Costs, term: Term) -> bool:
    """Whether a term is that of a function of other sites, of which nothing is scored."""
    node = costs.program.computed.get(term.name) if term.side == "model" else None
    if node is None:
        return False
    fn = node["fn"]
    return node["mask"] is False or (is_masked(fn) and getattr(fn, "_mask", None) is False)


def _enumerated(costs: Costs) -> EstimatorError:
    (name, *_) = costs.program.enumerated
    site = costs.program.enumerated[name]
    return EstimatorError(
        f"site '{name}': {type(site.estimator).__name__} averages costs over the values of the "
        f"site, of which a bound by several particles is no mean; expected an estimator of "
        f"sampled values. {site.estimator.advice(site.fn, is_at_once)}"
    )
