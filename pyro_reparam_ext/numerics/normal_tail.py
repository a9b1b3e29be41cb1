r"""The tails of the standard normal: hazard, Mills ratio, and quantiles beyond a point.

With :math:`Q = 1 - \Phi`, the hazard is :math:`h(z) = \phi(z) / Q(z)` and its excess
:math:`D(z) = h(z) - z`, which decreases to 0 as :math:`1 / z`. Everything about a far tail that has a
finite relative precision is a function of D, e.g. :math:`(\log h)' = D`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.special import erfcx

from .chunked import chunked

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

# A minimax rational function for float32: relative error 9e-8 for all z >= 0, highest power first.
_NUMERATOR = (1.0, 9.913705325118798, 48.22663745266526, 130.29205371130698, 173.75198060330487)
_DENOMINATOR = (
    1.0,
    9.913735686828486,
    50.22357125253633,
    150.22377270067767,
    262.4747764337211,
    217.76579468379555,
)
_TERMS = 16
_FAR = 1e6
"""Beyond this the excess is left at its value here: it is then nothing beside z."""


def excess_hazard(z: Tensor) -> Tensor:
    r""":math:`\phi(z) / Q(z) - z` for :math:`z \ge 0`, to the precision of the dtype."""
    if not torch.is_grad_enabled():
        return _excess_hazard(z)
    return _ExcessHazard.apply(z)


class _ExcessHazard(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return _excess_hazard(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        z, excess = ctx.saved_tensors
        return gradient * ((z + excess) * excess - 1)


def _excess_hazard(z: Tensor) -> Tensor:
    return _double(z) if z.dtype == torch.float64 else _single(z)


def _single(z: Tensor) -> Tensor:
    z = z.clamp(0.0, _FAR)
    return _polynomial(z, _NUMERATOR).div_(_polynomial(z, _DENOMINATOR))


def _polynomial(z: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """With leading coefficient 1, by Horner's rule in place."""
    _, second, *rest = coefficients
    total = z + second
    for c in rest:
        total.mul_(z).add_(c)
    return total


def _double(z: Tensor) -> Tensor:
    """From erfcx, and from the continued fraction of Laplace where that would cancel."""
    near, far = z.clamp(0.0, 8.0), z.clamp(8.0, _FAR)
    fraction = 0.5 * (far + (far.square() + 4 * _TERMS).sqrt())
    for k in range(_TERMS, 1, -1):
        fraction = far + k / fraction
    hazard = math.sqrt(2 / math.pi) / erfcx(near * math.sqrt(0.5))
    return torch.where(z < 8, hazard - near, 1 / fraction)


def hazard_and_excess(z: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`h(z)` and :math:`h(z) - z` for any real z, each to full relative precision."""
    # Not abs, whose slope at 0 is 0.
    distance = z * torch.where(z < 0, -1.0, 1.0)
    excess = excess_hazard(distance)
    upper = distance + excess
    density = (-0.5 * distance.square() - HALF_LOG_2PI).exp()
    lower = density / (1 - density / upper)
    positive = z >= 0
    return torch.where(positive, upper, lower), torch.where(positive, excess, lower + distance)


def normal_cdf(z: Tensor) -> Tensor:
    """The CDF of the standard normal; ``ndtr`` of torch has no relative precision in the lower tail."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * z)


def log_ndtr(z: Tensor) -> Tensor:
    r""":math:`\log \Phi(z)`; torch's own has no batching rule, and takes three times as long."""
    return _LogNdtr.apply(z)


class _LogNdtr(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        distance = z.abs()
        exponent = -0.5 * distance.square() - HALF_LOG_2PI
        log_tail = exponent - (distance + excess_hazard(distance)).log()
        return torch.where(z < 0, log_tail, torch.log1p(-log_tail.exp()))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return gradient * hazard_and_excess(-z)[0]


def tail_quantile(start: Tensor, exponent: Tensor) -> Tensor:
    r"""The distance d with :math:`Q(a + d) = Q(a)\,e^{-t}`, for :math:`a \ge 1` and :math:`t \ge 0`.

    Halley's method on :math:`d (a + d / 2) + \log h(a + d) - \log h(a) = t`. The starting value

    .. math::
        (a + d)^2 \approx a^2 + 2 t - \log(1 + c t), \qquad c = 2 (1 - a / h(a))

    has the right slope at 0 and the right growth; one step brings the relative error to 3e-8, two to
    that of float64. ``start`` broadcasts to ``exponent``; neither may need a gradient.
    """
    return chunked(tail_distance, exponent, *tail_start(start))


class TailStart(NamedTuple):
    """The arguments of :func:`tail_distance` that depend on the point a alone: a, h(a) and c."""

    point: Tensor
    hazard: Tensor
    slope: Tensor


def tail_start(start: Tensor) -> TailStart:
    excess = excess_hazard(start)
    hazard = start + excess
    return TailStart(start, hazard, 2 * excess / hazard)


def tail_distance(exponent: Tensor, start: Tensor, hazard_at_start: Tensor, slope: Tensor) -> Tensor:
    """:func:`tail_quantile` of a piece of the draws."""
    if exponent.dtype == torch.float64:
        return _by_halley(exponent, start, hazard_at_start, slope, _double, steps=2)
    return rough_tail_distance(exponent, start, hazard_at_start, slope)


def rough_tail_distance(
    exponent: Tensor, start: Tensor, hazard_at_start: Tensor, slope: Tensor
) -> Tensor:
    """:func:`tail_distance` by the formula of float32, in any dtype."""
    return _by_halley(exponent, start, hazard_at_start, slope, _single, steps=1)


def _by_halley(
    exponent: Tensor,
    start: Tensor,
    hazard_at_start: Tensor,
    slope: Tensor,
    excess_at: Callable[[Tensor], Tensor],
    steps: int,
) -> Tensor:
    # In place, since passes over memory are what this costs; not for a tensor that needs a gradient.
    square = (exponent * slope).log1p_().sub_(exponent, alpha=2)
    root = (start.square() - square).sqrt_().add_(start)
    distance = square.div_(root).neg_()
    for _ in range(steps):
        hazard = distance + start
        excess = excess_at(hazard)
        hazard.add_(excess)
        residual = (hazard / hazard_at_start).log_().sub_(exponent)
        residual.add_((0.5 * distance).add_(start).mul_(distance))
        newton = residual.div_(hazard)
        curvature = excess.mul_(newton).mul_(-0.5).add_(1)
        distance.sub_(newton.div_(curvature))
    return distance
