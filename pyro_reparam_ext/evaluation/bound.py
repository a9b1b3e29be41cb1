"""Costs under an objective that is no mean over the particles: one particle weighs what others cost.

The estimate that a site adds is made from what the objective would be at each of its alternatives,
which is a function of numbers that are known: no further evaluation is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.protocol import Evaluations
from .at_once import is_at_once
from .axes import PARTICLES
from .costs import Costs
from .objective import Objective


def log_weights(runs: Sequence[Costs]) -> Tensor:
    """The log weights of all particles, shape ``(particles,)``, at their ordinary values.

    Differentiable in all parameters: weighed as a bound does it, the score of a hard value has not the
    mean zero.
    """
    for costs in runs:
        if costs.program.enumerated:
            (name, *_) = costs.program.enumerated
            site = costs.program.enumerated[name]
            raise EstimatorError(
                f"site '{name}': {type(site.estimator).__name__} averages costs over the values of the "
                f"site, of which a bound by several particles is no mean; expected an estimator of "
                f"sampled values. {site.estimator.advice(site.fn, is_at_once)}"
            )
    return torch.cat([_of_run(costs) for costs in runs])


def _of_run(costs: Costs) -> Tensor:
    dim, total = costs.program.particle_dim, None
    for term in costs.passes[0].terms:
        log_prob = term.aligned[0]
        if dim is None:
            part = log_prob.sum().reshape(1)
        else:
            particles = log_prob.movedim(dim, 0)
            particles = particles.reshape(len(particles), -1).sum(1)
            part = particles.expand(costs.program.num_particles)
        total = term.added_to(total, part)
    return torch.zeros(1) if total is None else -total


def charged(
    one: Evaluations, costs: Costs, objective: Objective, weights: Tensor, particle: int | None
) -> Evaluations:
    """A site's costs as what the objective would lose at each alternative, times the particles.

    Args:
        one: with costs that are summed over all plates but that of the particles.
        weights: the log weights of all particles.
        particle: which one it is, if they are run one by one.
    """
    site, count = one.site, len(weights)
    if is_at_once(site.estimator) and site.plates - {PARTICLES}:
        raise EstimatorError(
            f"site '{site.name}': {type(site.estimator).__name__} changes all elements of plate "
            f"{sorted(site.plates - {PARTICLES})[0]!r} at once, which a bound by several particles "
            f"can't take apart. {site.estimator.advice(site.fn, is_at_once)}"
        )
    dim = one.particle_dim
    rows = one.costs.reshape(len(one.costs), -1)  # shape: (evaluations, particles), or 1 in a loop
    gain = rows[0] - rows
    if particle is None:
        alternatives = weights + gain
    else:
        alternatives = weights.expand(len(rows), count).clone()
        alternatives[:, particle] += gain[:, 0]
    # shape: (evaluations, particles)
    lost, pull_back = torch.func.vjp(
        lambda x: -count * objective.replaced(weights, x), alternatives.detach()
    )[:2]
    slope = pull_back(torch.ones_like(lost))[0]
    # shape: (particles,)
    others = (weights.sum() - weights) / max(count - 1, 1)
    baseline = -count * objective.replaced(weights, others)
    keep = slice(None) if particle is None else slice(particle, particle + 1)

    def shaped(x: Tensor) -> Tensor:
        """From ``(..., particles)`` to the dims of the costs."""
        x = x[..., keep].detach()
        return x if dim is None else x.reshape(*x.shape, *(1,) * (-1 - dim))

    def scaled(gradient: Tensor | None, number: int) -> Tensor | None:
        if gradient is None:
            return None
        branch = one.branches[number]
        start = 1 + sum(b.count for b in one.branches[:number])
        rows = slice(start, start + branch.count) if branch.count else slice(0, 1)
        factor = _padded(shaped(-slope[rows]), costs.program.batch_dims)
        factor = factor.reshape(*factor.shape, *(1,) * len(site.fn.event_shape))
        return gradient * (factor if branch.count else factor[0])

    return replace(
        one,
        costs=_padded(shaped(lost), costs.program.batch_dims),
        gradients=[scaled(gradient, number) for number, gradient in enumerate(one.gradients)],
        others=_padded(shaped(baseline)[None], costs.program.batch_dims)[0],
    )


def _padded(x: Tensor, dims: int) -> Tensor:
    """Evaluations on the left, then ``dims`` dims, those that are missing of size 1."""
    missing = dims + 1 - x.dim()
    return x.reshape(x.shape[0], *(1,) * missing, *x.shape[1:])
