"""RODEO: leave-one-out samples with control variates from a discrete Stein operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.relaxation import RELAXABLE, probabilities
from ..distributions.rules.wrappers import num_coordinates, sum_rightmost
from .base import Estimator
from .control_variates import (
    SeveralSamples,
    beside_values,
    dot,
    others,
    samples_of,
)
from .protocol import Evaluations, Paper, Site

HIDDEN = 100
"""Hidden units of the surrogate network, as in the paper."""


class SteinSurrogate(nn.Module):
    """The functions that the Stein operator is applied to, and how much of each is taken.

    Both are one network of two numbers, another sample's costs and their change to first order.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros((), dtype=like.dtype))
        self.beta = nn.Parameter(torch.zeros((), dtype=like.dtype))
        self.network = nn.Sequential(nn.Linear(2, HIDDEN), nn.LeakyReLU(0.3), nn.Linear(HIDDEN, 2)).to(
            like.dtype
        )

    def forward(self, change: Tensor, cost: Tensor) -> Tensor:
        """Two values, on the leftmost dim, for each change of the costs."""
        found: Tensor = self.network(torch.stack(torch.broadcast_tensors(change, cost), -1))
        return found.movedim(-1, 0)


@dataclass(frozen=True, eq=False)
class RODEO(SeveralSamples, Estimator):
    r"""Leave-one-out samples with control variates that a discrete Stein operator makes of a surrogate.

    For a function :math:`h`, and :math:`b_{i \to v}` the value :math:`b` with coordinate :math:`i` set
    to :math:`v`,

    .. math::
        (A h)(b) = \frac1D \sum_i \sum_v q_\phi(v \mid b_{-i})\, \big(h(b_{i \to v}) - h(b)\big)

    has the mean 0 under :math:`q_\phi`. With :math:`s` the score :math:`\nabla_\phi \log q_\phi`, the
    estimate is

    .. math::
        \frac1K \sum_k \Big(f(b_k) - \frac{1}{K-1} \sum_{j \ne k} \big(f(b_j) + \alpha\,
        (A h_j)(b_j)\big)\Big)\, s(b_k) + \beta\, (A\, \tilde h_k s)(b_k)

    Surrogates :math:`h_k, \tilde h_k` are means over the other samples :math:`j` of a network at
    :math:`f(b_j)` and :math:`\nabla f(b_j)^\top (\,\cdot\, - b_j)`: no further evaluation of the
    program is needed for the neighbours. Network, :math:`\alpha` and :math:`\beta` are trained, per
    site, on the variance of the gradient with respect to the logits, by the optimiser that ``SVI`` has;
    until then this is leave-one-out.

    Serves Bernoulli and one-hot sites; ``num_samples`` evaluations, and the model learns from each.

    Args:
        num_samples: samples of the site per particle, at least two.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, or its value was given by a
            handler.

    References:
        Shi, Zhou, Hwang, Titsias, Mackey, 2022, Gradient Estimation with Discrete Stein Operators,
        https://arxiv.org/abs/2202.09497

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.RODEO(num_samples=2)})
    """

    num_samples: int = 2

    unbiased = True
    paper = Paper(
        "Shi, Zhou, Hwang, Titsias, Mackey",
        "Gradient Estimation with Discrete Stein Operators",
        2022,
        "2202.09497",
    )
    supported = RELAXABLE

    def new_state(self, site: Site) -> nn.Module:
        return SteinSurrogate(site.log_prob)

    def gradient(self, evaluations: Evaluations) -> Tensor:
        """The estimate in the free logits, differentiable in what is learned."""
        site, costs = evaluations.site, evaluations.costs
        assert isinstance(site.state, SteinSurrogate)
        base, state, probs = site.base, site.state, probabilities(site.base).detach()
        values, slopes = samples_of(evaluations)  # shape of each: (num_samples, *value.shape)
        # Neighbours differ in one coordinate: each has the place of a value in the shape of the values.
        weight = _probability(base, probs, values)
        here, there = _surrogates(site, state, costs, values, slopes)
        change = weight * (there - beside_values(site, here))
        size, events = num_coordinates(site.fn), len(site.fn.event_shape)
        local, outer = sum_rightmost(change, events) / size  # shape of each: (num_samples, *batch)
        score, moved = values - probs, _moved(base, values, weight * there[1]) / size
        baseline = others(costs + state.alpha * local)
        of_score = beside_values(site, outer) * score + moved
        return (beside_values(site, costs - baseline) * score + state.beta * of_score).mean(0)


def _surrogates(
    site: Site, state: SteinSurrogate, costs: Tensor, values: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """Both surrogates, on the leftmost dim, at the samples and at their neighbours.

    Shapes ``(2, num_samples, *batch)`` and ``(2, num_samples, *value.shape)``.
    """
    here, there = [], []
    for shift in range(1, len(costs)):  # each sample meets each other one
        slope, start, cost = (x.roll(shift, 0) for x in (slopes, values, costs))
        change = dot(site, slope, values - start)
        to_neighbours = beside_values(site, change) + _change(site.base, values, slope)
        here.append(state(change, cost))
        there.append(state(to_neighbours, beside_values(site, cost)))
    return torch.stack(here).mean(0), torch.stack(there).mean(0)


def _probability(base: TorchDistribution, probs: Tensor, value: Tensor) -> Tensor:
    """The probability of each neighbour's own coordinate: a bit flipped, or set to a class."""
    return (probs - value).abs() if is_binary(base) else probs.expand(value.shape)


def _change(base: TorchDistribution, value: Tensor, slope: Tensor) -> Tensor:
    """The change of a linear function from a value to each of its neighbours."""
    if is_binary(base):
        return slope * (1 - 2 * value)
    return slope - (slope * value).sum(-1, keepdim=True)


def _moved(base: TorchDistribution, value: Tensor, weight: Tensor) -> Tensor:
    """The sum of the steps to all neighbours, weighed: the transpose of :func:`_change`."""
    if is_binary(base):
        return weight * (1 - 2 * value)
    return weight - value * weight.sum(-1, keepdim=True)
