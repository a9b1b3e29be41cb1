r"""Points of a truncated normal, for many draws of each parameter.

In the bulk the quantile is :math:`\sqrt 2\, y` with :math:`\mathrm{erf}(y) = e`, where e is linear in
the uniform number. In a tail let e be the share of the mass beyond its end that lies below the
quantile: the distance from the end is a smooth function of the same y, 0 with it. It is y times a
polynomial, through the distances at a few points. So one formula, whose coefficients depend on
the parameters alone, serves every interval.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .normal_tail import TailStart, rough_tail_distance
from .truncated_standard_normal import Frame, quantile_terms

COUNT = 13
"""Of coefficients: then the error is that of float32."""
MIDDLE = 1.875
"""Of the range of y, which ends where float32 does: erf(3.75) is 1 - 1e-7."""
MANY = 2**15
"""Draws for which coefficients are worth it, if they are 64 for each parameter."""


def is_worth_it(uniform: Tensor, parameter: Tensor) -> bool:
    """By the shapes, the dtype and the device alone; not for a compiler, which fuses what is long."""
    if torch.compiler.is_compiling():
        return False
    many = uniform.numel() >= max(MANY, 64 * parameter.numel())
    return many and uniform.dtype == torch.float32 and uniform.device.type == "cpu"


def polynomial_terms(frame: Frame) -> tuple[Tensor, ...]:
    """The arguments of :func:`point_at` beside the uniform numbers, in the batch shape."""
    low, span, share, by_tail, by_slope, by_bulk, *start = quantile_terms(frame)
    at_edge = frame.tail | frame.narrow
    low, span = torch.where(at_edge, 0.0, low), torch.where(at_edge, share, span)
    # In double precision, since what the coefficients are sums of cancels.
    y, exponent, matrix = (torch.as_tensor(x, device=low.device) for x in _interpolation())
    y, exponent = (x.reshape((-1,) + (1,) * low.dim()) for x in (y, exponent))
    distance = rough_tail_distance(exponent, *TailStart(*(x.double() for x in start)))
    position = distance * by_tail + exponent * by_slope
    coefficients = torch.tensordot(matrix, position / y, 1).to(low.dtype)
    first, *others = (coefficients * frame.unit).unbind()
    return frame.origin, low, span, *reversed(others), first + by_bulk * frame.unit


def point_at(
    uniform: Tensor, origin: Tensor, low: Tensor, span: Tensor, *coefficients: Tensor
) -> Tensor:
    """The points of a piece."""
    limit = 1 - 0.5 * torch.finfo(uniform.dtype).eps
    y = (uniform * span).add_(low).clamp(-limit, limit).erfinv_()
    shifted = y - MIDDLE
    highest, following, *others = coefficients
    # Not addcmul, which is not vectorised for two numbers and a tensor.
    total = (shifted * highest).add_(following)
    for c in others:
        total = torch.addcmul(c, total, shifted)
    return torch.addcmul(origin, total, y)


@cache
def _interpolation() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points y, -log(1 - erf(y)) there, and the matrix to coefficients in powers of y - MIDDLE."""
    shifted = MIDDLE * np.cos(np.pi * (np.arange(COUNT) + 0.5) / COUNT)
    y = MIDDLE + shifted
    exponent = np.array([-math.log(math.erfc(x)) for x in y])
    return y, exponent, np.linalg.inv(np.vander(shifted, increasing=True))
