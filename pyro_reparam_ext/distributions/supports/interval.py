"""A closed interval whose ends may be infinite, elementwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to, transforms
from torch.nn.functional import logsigmoid, softplus


def check_order(low: Tensor, high: Tensor) -> None:
    if not (low < high).all():
        raise ValueError(f"low has to be below high; got low = {low} and high = {high}.")


def check_resolved(draws: Tensor) -> Tensor:
    """The draws of a truncated law, unless its base does not tell the mass between the bounds."""
    if draws.isnan().any():
        raise ValueError(
            "Between low and high lies less of the mass of the base than its CDF can tell; expected at "
            "least 1e-300, or 1e-15 where only a CDF of one's own is known. Move the bounds, or "
            "truncate a law whose tails are known in logarithms, as Normal, Logistic, Cauchy or Gumbel."
        )
    return draws


class ExtendedInterval(constraints.Constraint):
    """``[lower_bound, upper_bound]``; tensors say elementwise whether an end is infinite."""

    def __init__(self, lower_bound: Tensor, upper_bound: Tensor) -> None:
        self.lower_bound, self.upper_bound = lower_bound, upper_bound
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return (self.lower_bound <= value) & (value <= self.upper_bound)

    def __repr__(self) -> str:
        return f"ExtendedInterval(lower_bound={self.lower_bound}, upper_bound={self.upper_bound})"


class ExtendedIntervalTransform(transforms.Transform):
    r"""The real line onto an interval, by the ends that are finite, elementwise.

    Both: :math:`l + (h - l)\,\mathrm{sigmoid}(x)`; one: :math:`l + \log(1 + e^x)` or
    :math:`h - \log(1 + e^x)`; none: the identity.
    """

    domain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, low: Tensor, high: Tensor, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.low, self.high = low, high

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def codomain(self) -> constraints.Constraint:
        return ExtendedInterval(self.low, self.high)

    def with_cache(self, cache_size: int = 1) -> ExtendedIntervalTransform:
        return type(self)(self.low, self.high, cache_size=cache_size)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ExtendedIntervalTransform)
            and torch.equal(self.low, other.low)
            and torch.equal(self.high, other.high)
        )

    def _ends(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Whether each end is finite, and numbers that are safe where it is not."""
        below, above = self.low.isfinite(), self.high.isfinite()
        low, high = torch.where(below, self.low, 0.0), torch.where(above, self.high, 0.0)
        return below, above, low, high

    def _call(self, x: Tensor) -> Tensor:
        below, above, low, high = self._ends()
        both = low + torch.where(below & above, high - low, 1.0) * torch.sigmoid(x)
        one = torch.where(below, low + softplus(x), high - softplus(-x))
        return torch.where(below & above, both, torch.where(below | above, one, x))

    def _inverse(self, y: Tensor) -> Tensor:
        below, above, low, high = self._ends()
        width = torch.where(below & above, high - low, 1.0)
        share = torch.where(below & above, (y - low) / width, 0.5)
        eps = torch.finfo(share.dtype).eps
        both = torch.logit(share.clamp(torch.finfo(share.dtype).tiny, 1 - eps))
        distance = torch.where(below, y - low, high - y)
        distance = torch.where(below ^ above, distance, 1.0).clamp(min=torch.finfo(share.dtype).tiny)
        single = distance + (-torch.expm1(-distance)).log()
        single = torch.where(below, single, -single)
        return torch.where(below & above, both, torch.where(below | above, single, y))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        below, above, low, high = self._ends()
        width = torch.where(below & above, high - low, 1.0)
        both = width.log() + logsigmoid(x) + logsigmoid(-x)
        one = logsigmoid(torch.where(below, x, -x))
        return torch.where(below & above, both, torch.where(below | above, one, torch.zeros_like(x)))


@biject_to.register(ExtendedInterval)
@transform_to.register(ExtendedInterval)
def _to_extended_interval(constraint: Any) -> ExtendedIntervalTransform:
    return ExtendedIntervalTransform(constraint.lower_bound, constraint.upper_bound)
