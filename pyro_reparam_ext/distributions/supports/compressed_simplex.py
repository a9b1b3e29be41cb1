r"""Points of a simplex that keep the logarithm of their least components in floating point.

A component far below rounding, but not below the range of floats, says nothing about sums or products;
so the logarithm of its true value may be written into it. With :math:`\xi = \log y`, F half of the
range below 1 (:math:`e^{-F}` is 1e-19 in float32, 1e-154 in float64) and :math:`d = -F - \xi > 0` the
distance below it, the component is held as :math:`\exp(-F - 2 \log(1 + d / 2))`, which is cut off for
:math:`d > 4 \cdot 10^5` (float32) only.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, biject_to, constraints, transform_to

from .relaxed import RelaxedSimplex

RATE = 2.0


def threshold_of(dtype: torch.dtype) -> float:
    """F: the least logarithm that is kept as it is, negated."""
    return -0.5 * math.log(torch.finfo(dtype).tiny)


def _least_of(dtype: torch.dtype) -> float:
    """The least logarithm written: its inverse times the slope of its expansion doesn't overflow."""
    threshold = threshold_of(dtype)
    return -threshold - 0.85 * threshold * RATE / (1 + RATE)


def compressed(log_y: Tensor) -> Tensor:
    """The components whose true logarithms are ``log_y``, as they are held."""
    threshold = threshold_of(log_y.dtype)
    below = (-threshold - log_y).clamp(min=0)
    log_held = log_y.clamp(min=-threshold) - RATE * (below / RATE).log1p()
    return log_held.clamp(min=_least_of(log_y.dtype)).exp()


def expanded_log(y: Tensor) -> Tensor:
    """The true logarithms of components as they are held; of 0, that of the least."""
    threshold = threshold_of(y.dtype)
    log_held = y.clamp(min=math.exp(_least_of(y.dtype))).log()
    below = (-threshold - log_held).clamp(min=0)
    return log_held.clamp(min=-threshold) - RATE * (below / RATE).expm1()


class _CompressedSimplex(RelaxedSimplex):
    """The simplex, to the rounding of as many components; the least are held compressed."""


compressed_simplex = _CompressedSimplex()


class CompressedSoftmax(Transform):
    r"""The softmax of :math:`(x_1, \ldots, x_{K-1}, 0)`, its least components compressed.

    The Jacobian determinant is that without compression, which is a change of the value alone.
    """

    domain = constraints.real_vector
    codomain = compressed_simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompressedSoftmax)

    def _call(self, x: Tensor) -> Tensor:
        return compressed(_log_softmax(x))

    def _inverse(self, y: Tensor) -> Tensor:
        log_y = expanded_log(y)
        return log_y[..., :-1] - log_y[..., -1:]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return _log_softmax(x).sum(-1)

    def forward_shape(self, shape: Size) -> Size:
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Size) -> Size:
        return torch.Size((*shape[:-1], shape[-1] - 1))


def _log_softmax(x: Tensor) -> Tensor:
    return torch.cat([x, torch.zeros_like(x[..., :1])], -1).log_softmax(-1)


@biject_to.register(_CompressedSimplex)
@transform_to.register(_CompressedSimplex)
def _transform(constraint: Any) -> Transform:
    return CompressedSoftmax()
