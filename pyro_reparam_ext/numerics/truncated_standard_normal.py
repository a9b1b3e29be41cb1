"""A standard normal between two bounds: quantiles, CDF, mass and quadrature, stable everywhere."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import ndtr

from .chunked import chunked
from .normal_tail import HALF_LOG_2PI, TailStart, excess_hazard, tail_distance, tail_start
from .quadrature import gauss_legendre

_ROOT_2 = math.sqrt(2)
_FEW, _MANY = gauss_legendre(12), gauss_legendre(64)


class Frame(NamedTuple):
    """The standardised interval, mirrored so that its middle is not negative, in the batch shape.

    A point is ``origin + unit * position``. The origin is the lower end of the mirrored interval
    where that is in the tail or where the interval is very narrow, otherwise ``loc``; ``reference``
    is what the origin stands for, so that z = reference + position up to the sign.
    """

    origin: Tensor
    unit: Tensor
    reference: Tensor
    a: Tensor
    b: Tensor
    width: Tensor
    tail: Tensor
    narrow: Tensor


_TAIL = 1.0
"""From here on the tail is solved for in logarithms: there one Halley step is enough."""


def frame_of(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Frame:
    below, above = low.isfinite(), high.isfinite()
    a = torch.where(below, (torch.where(below, low, loc) - loc) / scale, low)
    b = torch.where(above, (torch.where(above, high, loc) - loc) / scale, high)
    mirrored = a + b < 0
    a, b = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
    both = below & above
    width = torch.where(both, torch.where(both, high - low, 1.0) / scale, math.inf)
    # Where the curvature of the log-density and the rounding of erf do equally little.
    narrow = (width < (5 * torch.finfo(width.dtype).eps) ** (1 / 3)) & (width * a < 1)
    tail = (a >= _TAIL) & ~narrow
    at_edge = tail | narrow
    origin = torch.where(at_edge, torch.where(mirrored, high, low), loc)
    unit = torch.where(mirrored, -scale, scale)
    reference = torch.where(at_edge, a, 0.0)
    return Frame(origin, unit, reference, a, b, width, tail, narrow)


def _tail_terms(frame: Frame) -> tuple[TailStart, Tensor]:
    """The start of the tail, and the share of Q(a) in the interval; safe numbers elsewhere."""
    finite = frame.tail & frame.b.isfinite()
    a = torch.where(frame.tail, frame.a, _TAIL)
    b = torch.where(finite, frame.b, _TAIL)
    width = torch.where(finite, frame.width, 1.0)
    start = tail_start(a)
    h_b = b + excess_hazard(b)
    drop = width * (0.5 * width + a) + (h_b / start.hazard).log()
    share = torch.where(finite, -torch.expm1(-torch.where(finite, drop, 1.0)), 1.0)
    return start, share


def _slope_terms(frame: Frame) -> tuple[Tensor, Tensor]:
    """The decay of the density in a narrow interval, and the share of its exponential law."""
    slope = torch.where(frame.narrow, 0.5 * (frame.a + frame.b), 1.0).clamp(min=1e-3)
    width = torch.where(frame.narrow, frame.width, 1.0)
    return slope, -torch.expm1(-slope * width)


def _bulk_terms(frame: Frame) -> tuple[Tensor, Tensor]:
    bulk = ~(frame.tail | frame.narrow)
    a = torch.where(bulk, frame.a, -1.0).clamp(min=-40.0)
    b = torch.where(bulk, frame.b, 1.0).clamp(max=40.0)
    return a, b


def quantile(frame: Frame, uniform: Tensor, rest: Tensor | None = None) -> Tensor:
    """The quantile of the mirrored law; ``rest`` is 1 - uniform, known to a higher precision."""
    others = () if rest is None else (rest,)
    return chunked(position_at, uniform, *quantile_terms(frame), *others)


def quantile_terms(frame: Frame) -> tuple[Tensor, ...]:
    """The arguments of :func:`position_at` beside the uniform numbers, in the batch shape."""
    start, share = _tail_terms(frame)
    slope, narrow_share = _slope_terms(frame)
    low, high = (torch.erf(x / _ROOT_2) for x in _bulk_terms(frame))
    share = torch.where(frame.narrow, narrow_share, share)
    # Of the three formulas two have the factor 0.
    by_tail = frame.tail.to(low.dtype)
    by_slope = torch.where(frame.narrow, 1 / slope, 0.0)
    by_bulk = _ROOT_2 * (~(frame.tail | frame.narrow)).to(low.dtype)
    return low, high - low, share, by_tail, by_slope, by_bulk, *start


def position_at(
    uniform: Tensor,
    low: Tensor,
    span: Tensor,
    share: Tensor,
    by_tail: Tensor,
    by_slope: Tensor,
    by_bulk: Tensor,
    start: Tensor,
    hazard_at_start: Tensor,
    slope_at_start: Tensor,
    rest: Tensor | None = None,
) -> Tensor:
    """:func:`quantile` of a piece. All three formulas run, as the choice would need the host."""
    limit = 1 - 0.5 * torch.finfo(uniform.dtype).eps
    bulk = (uniform * span).add_(low).clamp(-limit, limit).erfinv_()
    exponent = (uniform * -share).log1p_().neg_()
    if rest is not None:
        survival = (rest + uniform * (1 - share)).clamp(min=torch.finfo(rest.dtype).tiny)
        exponent = torch.where(uniform < 0.5, exponent, -survival.log())
    distance = tail_distance(exponent, start, hazard_at_start, slope_at_start)
    position = distance.mul_(by_tail).add_(exponent.mul_(by_slope))
    return position.add_(bulk.mul_(by_bulk))


def cdf_of(frame: Frame, position: Tensor) -> Tensor:
    """The CDF of the mirrored law."""
    position = torch.where(frame.tail | frame.narrow, position.clamp(min=0.0), position)
    start, share = _tail_terms(frame)
    distance = torch.where(frame.tail, position, 0.0)
    z = start.point + distance
    drop = distance * (0.5 * distance + start.point) + ((z + excess_hazard(z)) / start.hazard).log()
    tail = -torch.expm1(-drop) / share
    slope, narrow_share = _slope_terms(frame)
    narrow = -torch.expm1(-slope * torch.where(frame.narrow, position, 0.0)) / narrow_share
    low, high = _bulk_terms(frame)
    z = torch.where(frame.tail | frame.narrow, 0.0, position)
    bulk = (ndtr(z) - ndtr(low)) / (ndtr(high) - ndtr(low))
    fraction = torch.where(frame.tail, tail, torch.where(frame.narrow, narrow, bulk))
    return fraction.clamp(0.0, 1.0)


def log_mass(frame: Frame) -> Tensor:
    """The log of the integral of exp(-position (position / 2 + reference)), in the batch shape."""
    edge, share = _tail_terms(frame)
    tail = share.log() - edge.hazard.log()
    low, high = _bulk_terms(frame)
    bulk = torch.log1p(-(ndtr(low) + ndtr(-high))) + HALF_LOG_2PI
    # By quadrature where the density hardly changes: no difference of nearly equal numbers.
    flat = frame.width * frame.a.clamp(min=1.0) < 2
    width = torch.where(flat, frame.width, 1.0)
    reference = torch.where(flat, frame.reference, 0.0)
    start = torch.where(flat, frame.a, 0.0) - reference
    integral = torch.zeros_like(width)
    for node, weight in zip(*_FEW, strict=True):
        position = start + node * width
        integral = integral + weight * (-position * (0.5 * position + reference)).exp()
    by_quadrature = (integral * width).log()
    return torch.where(flat, by_quadrature, torch.where(frame.tail, tail, bulk))


_FOLDS = 40.0
"""The density is left out where it is below exp(-40) of its maximum."""


def quadrature(frame: Frame) -> tuple[Tensor, Tensor]:
    """Quadrature of the mirrored law: positions on a new leading dim, and weights that sum to 1."""
    reach = math.sqrt(2 * _FOLDS)
    start = torch.where(frame.tail | frame.narrow, 0.0, frame.a.clamp(min=-reach))
    a = frame.reference
    reached = 2 * _FOLDS / (a + (a.square() + 2 * _FOLDS).sqrt())
    length = torch.minimum(reached - start, torch.where(frame.width.isfinite(), frame.width, math.inf))
    length = torch.minimum(length, torch.where(frame.b.isfinite(), frame.b - a - start, math.inf))
    nodes, weights = (torch.tensor(x, dtype=a.dtype, device=a.device) for x in _MANY)
    column = (-1,) + (1,) * a.dim()
    positions = start + length * nodes.reshape(column)
    density = weights.reshape(column) * (-positions * (0.5 * positions + a)).exp()
    return positions, density / density.sum(0)
