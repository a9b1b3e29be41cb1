r"""Costs under an objective that is no mean over the particles: one particle weighs what others cost.

The estimate that a site adds is made from what the objective would be at each of its alternatives,
which is a function of numbers that are known: no further evaluation is needed. Where the objective is
:math:`L` and :math:`v_p` its derivative in the log weight of particle :math:`p`, a site is charged by

.. math::
    -(L - v_p)

since its log density is a part of the weight, by which the score of its value gets a :math:`-v_p`. The
derivative of that in the log weight, :math:`v_p - \partial v_p / \partial w_p`, is what a gradient in
the value of a site is multiplied by: for the bound of order :math:`\alpha` it is
:math:`\alpha v_p + (1 - \alpha) v_p^2`, the coefficient of the doubly reparameterised gradient. A log
density that is scaled or masked is a part of the weight as often as that says: so often is
:math:`v_p` taken away.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.protocol import Evaluations
from ..numerics.shapes import broadcast_shapes
from .at_once import is_at_once
from .axes import PARTICLES
from .costs import Costs
from .log_weights import LogWeights, times_counted
from .objective import Objective


def charged(
    one: Evaluations, costs: Costs, objective: Objective, weights: LogWeights, particle: int | None
) -> Evaluations:
    """A site's costs as what the objective would lose at each alternative, times the particles.

    Args:
        one: with costs that are summed over all plates but those with weights of their own.
        weights: the log weights of all particles, detached.
        particle: which one it is, if they are run one by one.
    """
    site, scale, values = one.site, weights.scale, weights.values
    together = site.plates - {PARTICLES} - costs.own_weights
    if is_at_once(site.estimator) and together:
        raise EstimatorError(
            f"site '{site.name}': {type(site.estimator).__name__} changes all elements of plate "
            f"{sorted(together)[0]!r} at once, which a bound by several particles "
            f"can't take apart. {site.estimator.advice(site.fn, is_at_once)}"
        )
    count = len(values)
    # shape: (evaluations, particles, *plates); or without particles, if they are run one by one
    gain = torch.where(one.costs == one.costs[0], 0.0, one.costs[0] - one.costs) / scale
    missing = values.dim() + (particle is None) - gain.dim()
    gain = gain.reshape(len(gain), *(1,) * missing, *gain.shape[1:])
    if particle is None:
        alternatives = values + gain
    else:
        alternatives = values.expand(len(gain), *values.shape).clone()
        alternatives[:, particle] += gain
    times = times_counted(site, costs.program.ordinary.nodes[site.name], scale)
    if times is not None:  # for each element of the plates of the site
        alternatives = alternatives.expand(broadcast_shapes(alternatives.shape, times.shape))

    def signal(x: Tensor) -> Tensor:
        share = objective.share(values, x)
        return -count * (objective.replaced(values, x) - (share if times is None else times * share))

    lost, pull_back = torch.func.vjp(signal, alternatives.detach())[:2]
    slope = pull_back(torch.ones_like(lost))[0]
    baseline = -count * objective.baseline(values)[None]
    dims = costs.program.batch_dims

    def shaped(x: Tensor) -> Tensor:
        """From ``(..., particles, *plates)`` to the dims of the costs."""
        x = x.detach() if particle is None else x[:, particle].detach()
        return x.reshape(len(x), *x.shape[x.dim() - dims :])

    factors = shaped(-slope)

    def scaled(gradient: Tensor | None, number: int) -> Tensor | None:
        if gradient is None:
            return None
        branch = one.branches[number]
        start = 1 + sum(b.count for b in one.branches[:number])
        factor = factors[start : start + branch.count] if branch.count else factors[0]
        return gradient * factor[(..., *(None,) * len(site.fn.event_shape))]

    return replace(
        one,
        costs=scale * shaped(lost),
        gradients=[scaled(gradient, number) for number, gradient in enumerate(one.gradients)],
        others=scale * shaped(baseline)[0],
    )
