r"""The supports of relaxed values in floating point, and bijections to them.

A relaxed value is censored: a component of a simplex is held at :data:`floor_of` its dtype and above,
a value between 0 and 1 at :data:`edge_of` from either end. The coordinate that was cut is not
determined by the value any more. The bijections here draw it from a fixed law, of density

.. math::
    r(d) = \frac{F}{(F + d)^2}, \qquad d > 0,

at distance :math:`d` beyond the end, :math:`F` the distance of the end itself from the centre. The log
Jacobian determinant contains :math:`\log r`, so that the density of the unconstrained coordinates is
that of a joint law of the value and of what was cut: the ELBO of a guide over them, such as an
autoguide, is a proper bound. Its pathwise gradient leaves out the jump of that density at the end.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, biject_to, constraints, transform_to
from torch.nn.functional import logsigmoid

from ...numerics.sigmoid import sigmoid
from .log_simplex import LogStickBreaking


def floor_of(dtype: torch.dtype) -> float:
    """The least component of a relaxed one-hot value: a power of two whose inverse is finite."""
    return 2.0 ** int(0.75 * math.log2(torch.finfo(dtype).tiny))


def edge_of(dtype: torch.dtype) -> float:
    """The least distance of a relaxed Bernoulli value from 0 and 1: a power of two, above rounding."""
    return 2.0 ** int(0.75 * math.log2(torch.finfo(dtype).eps))


class _RelaxedInterval(constraints.Constraint):
    """Numbers from 0 to 1, of which those next to an end stand for all beyond."""

    lower_bound, upper_bound = 0.0, 1.0

    def check(self, value: Any) -> Any:
        return (value >= 0) & (value <= 1)


class RelaxedSimplex(constraints.Constraint):
    """Vectors of nonnegative numbers that sum to 1, but for the rounding of as many numbers."""

    event_dim = 1

    def check(self, value: Any) -> Any:
        tolerance = max(1e-6, 4 * value.shape[-1] * torch.finfo(value.dtype).eps)
        return (value.amin(-1) >= 0) & ((value.sum(-1) - 1).abs() <= tolerance)

    def __repr__(self) -> str:  # torch's drops the first letter
        return "RelaxedSimplex()"


relaxed_interval = _RelaxedInterval()
relaxed_simplex = RelaxedSimplex()


class RelaxedSigmoid(Transform):
    """The sigmoid, held off 0 and 1."""

    domain = constraints.real
    codomain = relaxed_interval
    bijective = True
    sign = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RelaxedSigmoid)

    def _call(self, x: Tensor) -> Tensor:
        edge = edge_of(x.dtype)
        return sigmoid(x).clamp(edge, 1 - edge)

    def _inverse(self, y: Tensor) -> Tensor:
        edge = edge_of(y.dtype)
        return y.clamp(edge, 1 - edge).logit()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        end = -math.log(edge_of(x.dtype))
        inside = logsigmoid(x) + logsigmoid(-x)
        return torch.where(is_inside(y), inside, _log_tail(x.abs() - end, end))


class RelaxedStickBreaking(Transform):
    """Stick breaking in log space; no piece below the floor."""

    domain = constraints.real_vector
    codomain = relaxed_simplex
    bijective = True

    def __init__(self, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self._log = LogStickBreaking()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RelaxedStickBreaking)

    def _call(self, x: Tensor) -> Tensor:
        return self._log(x).exp().clamp(min=floor_of(x.dtype))

    def _inverse(self, y: Tensor) -> Tensor:
        return self._log.inv(y.clamp(min=floor_of(y.dtype)).log())

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        log_y, end = self._log(x), -math.log(floor_of(x.dtype))
        return torch.where(y > floor_of(y.dtype), log_y, _log_tail(-log_y - end, end)).sum(-1)

    def forward_shape(self, shape: Size) -> Size:
        return self._log.forward_shape(shape)

    def inverse_shape(self, shape: Size) -> Size:
        return self._log.inverse_shape(shape)


class RelaxedSoftmax(Transform):
    """The softmax, no component below the floor: for optimisation, not bijective."""

    domain = constraints.real_vector
    codomain = relaxed_simplex

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RelaxedSoftmax)

    def _call(self, x: Tensor) -> Tensor:
        return x.softmax(-1).clamp(min=floor_of(x.dtype))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.clamp(min=floor_of(y.dtype)).log()


def is_inside(value: Tensor) -> Tensor:
    """Whether a relaxed Bernoulli value is not censored."""
    edge = edge_of(value.dtype)
    return (value > edge) & (value < 1 - edge)


def _log_tail(distance: Tensor, end: float) -> Tensor:
    # Rounding may leave the distance slightly negative, and what isn't cut is replaced.
    return -math.log(end) - 2 * (distance.clamp(min=0) / end).log1p()


@biject_to.register(_RelaxedInterval)
@transform_to.register(_RelaxedInterval)
def _interval(constraint: constraints.Constraint) -> Transform:
    return RelaxedSigmoid()


@biject_to.register(RelaxedSimplex)
def _simplex(constraint: constraints.Constraint) -> Transform:
    return RelaxedStickBreaking()


@transform_to.register(RelaxedSimplex)
def _softmax(constraint: constraints.Constraint) -> Transform:
    return RelaxedSoftmax()
