"""A pair of relaxed values behind a discrete one, and the control variate that it carries.

What REBAR and RELAX have in common; they differ in the control variate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.discrete_noise import noise_given, noisy_logits_given
from ..distributions.rules.relaxation import coordinate, noisy_logits, probabilities, to_value
from ..distributions.rules.wrappers import sum_rightmost
from .protocol import Branch, Evaluations, Site
from .relaxed import RelaxedAt, integer_remedy


class RelaxedControlVariate(nn.Module):
    """The parameters that are learned at a site: scale and temperature of the relaxed costs."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))


@dataclass(frozen=True, eq=False, kw_only=True)
class RelaxedPair(Branch):
    """The two relaxed values, and what they were made of.

    ``z``, shape ``(2, ...)``: the noisy logits behind the value, and a second draw of them given the
    value; both differentiable in ``logits``.
    """

    logits: Tensor
    z: Tensor


@dataclass(frozen=True, eq=False)
class Controlled:
    """The control variate at a pair of relaxed values.

    ``cost``, shape ``batch``: at the second one. ``slopes``, shape ``(2, *value.shape)``: its gradient
    in both.
    """

    cost: Tensor
    slopes: Tensor


class RelaxedPairs:
    """For estimators with a control variate at relaxed values. A mixin, left of ``Estimator``."""

    def remedy(self, fn: TorchDistribution) -> str:
        return integer_remedy(fn)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 3

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        base, temperature = site.base, state_of(site).log_temperature.exp()
        # The noise behind the value is fixed: z moves with the logits one to one. z given the value
        # is a function of the logits and of a second uniform.
        z = noisy_logits(base, noise_given(base, site.value))
        pair = torch.stack([z, noisy_logits_given(base, site.value)])  # shape: (2, *logits.shape)
        values = to_value(base, coordinate(base, pair, temperature))
        relaxed = RelaxedPair(
            count=2,
            values=lambda start, stop: values[start:stop],
            order=1,
            tensor=values,
            trains=True,
            downstream=RelaxedAt(site, temperature),
            logits=base.logits,
            z=pair,
        )
        return (relaxed,)

    def controlled(self, evaluations: Evaluations) -> Controlled:
        """The relaxed costs, scaled: differentiable in all that is learned."""
        site, pair = evaluations.site, pair_of(evaluations)
        assert pair.tensor is not None
        scale, slopes, second = state_of(site).scale, evaluations.gradient(), pair.tensor[1]
        # The cost of the second value moves with the temperature, to first order.
        moved = slopes[1].detach() * (second - second.detach())
        cost = evaluations.costs[2] + sum_rightmost(moved, len(site.fn.event_shape))
        return Controlled(scale * cost, scale * slopes)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, pair = evaluations.site, pair_of(evaluations)
        control = self.controlled(evaluations)
        temperature = state_of(site).log_temperature.detach().exp()
        values = to_value(site.base, coordinate(site.base, pair.z, temperature))
        relaxed = control.slopes.detach() * values
        relaxed = sum_rightmost(relaxed[0] - relaxed[1], len(site.fn.event_shape))  # shape: batch
        return (evaluations.cost - control.cost.detach()) * site.log_prob + relaxed

    def learning_loss(self, evaluations: Evaluations) -> Tensor:
        """The expected square of the gradient in the logits: its variance up to a constant."""
        site, pair = evaluations.site, pair_of(evaluations)
        assert pair.tensor is not None
        base, control = site.base, self.controlled(evaluations)
        (relaxed,) = torch.autograd.grad(
            pair.tensor,
            pair.logits,
            torch.stack([control.slopes[0], -control.slopes[1]]),
            create_graph=True,
        )
        probs = probabilities(base).detach()
        if base.event_shape:  # from normalised to free logits
            relaxed = relaxed - probs * relaxed.sum(-1, keepdim=True)
        remainder = evaluations.cost - control.cost
        remainder = remainder.reshape(remainder.shape + (1,) * len(site.fn.event_shape))
        gradient = remainder * (site.value.detach() - probs) + relaxed
        return gradient.square().sum()


def state_of(site: Site) -> RelaxedControlVariate:
    """The parameters that are learned at a site."""
    assert isinstance(site.state, RelaxedControlVariate)
    return site.state


def pair_of(evaluations: Evaluations) -> RelaxedPair:
    """The relaxed values."""
    (pair,) = evaluations.branches
    assert isinstance(pair, RelaxedPair)
    return pair
