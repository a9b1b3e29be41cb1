r"""The support of gates, whose ends have a mass, and how it is reached from the real line.

A value is a stretched and clamped sigmoid. The x beyond an end all lead to it, and are given the law

.. math::
    r(d) = \frac{F}{(F + d)^2}, \qquad d > 0,

of the distance :math:`d` from the end, :math:`F` half of the distance of the ends. Its logarithm stands
where a bijection has the log determinant of its Jacobian, so that x and the value have a joint law
and an ELBO over x is a bound of the same evidence. A pathwise gradient leaves out the jump at an end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints, transform_to

from ...numerics.relaxation import outward


class StretchedInterval(constraints.Constraint):
    """Numbers in [0, 1], reached by a sigmoid that is stretched to (low, high) and clamped."""

    lower_bound, upper_bound = 0.0, 1.0

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.start, self.end = math.log(-low / high), math.log((1 - low) / (high - 1))
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1)

    def __repr__(self) -> str:
        return f"StretchedInterval({self.low}, {self.high})"

    def value(self, x: Tensor) -> Tensor:
        return (self.low + (self.high - self.low) * x.sigmoid()).clamp(0, 1)

    def coordinate(self, value: Tensor) -> Tensor:
        """The x of a value; the start or the end if clamped."""
        below, above = self._distances(value)
        return (below / above).log()

    def log_slope(self, value: Tensor) -> Tensor:
        """The logarithm of the derivative of the value in x, up to the ends."""
        below, above = self._distances(value)
        return below.log() + above.log() - math.log(self.high - self.low)

    def _distances(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """From the stretched ends; above 0 also where ``high`` rounds to 1."""
        return value - self.low, (1 - value) + (self.high - 1)


class StretchedSigmoid(Transform):
    """The sigmoid, stretched and clamped. The inverse of 0 or 1 is the median of what leads to it."""

    domain = constraints.real
    bijective = True  # with the law of what is beyond an end for the Jacobian
    sign = 1

    def __init__(self, interval: StretchedInterval) -> None:
        super().__init__()
        self.codomain = self.interval = interval
        self.scale = (interval.end - interval.start) / 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StretchedSigmoid) and repr(other.interval) == repr(self.interval)

    def _call(self, x: Tensor) -> Tensor:
        return self.interval.value(x)

    def _inverse(self, y: Tensor) -> Tensor:
        x = self.interval.coordinate(y)
        return x + torch.where(inside(y), 0.0, self.scale) * outward(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # Rounding may leave the distance slightly negative.
        beyond = torch.where(y > 0.5, x - self.interval.end, self.interval.start - x).clamp(min=0)
        tail = -math.log(self.scale) - 2 * (beyond / self.scale).log1p()
        return torch.where(inside(y), self.interval.log_slope(y), tail)


def inside(value: Tensor) -> Tensor:
    """Whether it is not clamped."""
    return (value > 0) & (value < 1)


for registry in (biject_to, transform_to):
    registry.register(StretchedInterval, StretchedSigmoid)
