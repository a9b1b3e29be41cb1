r"""The angle between a direction and its mean direction, under the laws of von Mises and Fisher.

On the unit sphere of :math:`\mathbb{R}^d` it has the density

.. math::
    f(\varphi; \kappa) = \frac{1}{Z_d(\kappa)} \sin^{d-2} \varphi\; e^{-2 \kappa \sin^2(\varphi / 2)},
    \qquad 0 < \varphi < \pi,

for which :math:`1 - \cos \varphi = 2 \sin^2(\varphi / 2)` keeps its relative precision where the law is
narrow. Every integral is one of Gauss-Legendre over the tail of a point, relative to the density at
that point and cut off where the density is negligible: nothing overflows or cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import erfc

from .chunked import chunked
from .quadrature import gauss_legendre

_ALL_AT_ONCE = 2**17
"""Numbers that a loop over the nodes would only slow down."""


class Effort(NamedTuple):
    """How far an integral goes, in units of the log-density, and its nodes and weights on (0, 1)."""

    drop: float
    nodes: tuple[float, ...]
    weights: tuple[float, ...]


_ROUGH = Effort(12.0, *gauss_legendre(8))
_SINGLE = Effort(17.0, *gauss_legendre(14))
_DOUBLE = Effort(36.0, *gauss_legendre(32))
_PRECISE = Effort(40.0, *gauss_legendre(48))


class PolarLaw(NamedTuple):
    """The constants of the angle's law, which depend on the concentration and the dimension alone."""

    centre: Tensor
    """Where the log-odds of the angle have their mode."""
    log_mass: Tensor
    """The log of the integral of the density relative to that at the centre."""
    log_normaliser: Tensor
    r"""log Z."""
    shortfall: Tensor
    r""":math:`1 - E[\cos \varphi]`; its negative is the derivative of log Z."""


def polar_law(concentration: Tensor, dim: int) -> PolarLaw:
    """Differentiable in the concentration, which may be 0, and computed once for what is expanded."""
    law = _law(unexpanded(concentration), dim)
    return PolarLaw(*(x.expand_as(concentration) for x in law))


def unexpanded(x: Tensor) -> Tensor:
    """One element of each dim along which the tensor repeats itself."""
    for dim, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        if size > 1 and stride == 0:
            x = x.narrow(dim, 0, 1)
    return x


def _law(concentration: Tensor, dim: int) -> PolarLaw:
    with torch.no_grad():
        # cos and sin^2 at the mode of log tan(angle / 2).
        half = dim - 1 + torch.hypot(concentration.new_tensor(dim - 1.0), 2 * concentration)
        centre = torch.atan2((2 * (dim - 1) / half).sqrt(), 2 * concentration / half)
    both = centre.new_tensor([-1.0, 1.0]).view((2,) + (1,) * centre.dim())
    mass, excess = (x.sum(0) for x in tail(centre, both, concentration, dim, _PRECISE))
    versine = 2 * (centre / 2).sin().square()
    log_mass = mass.log()
    log_normaliser = log_mass - concentration * versine + (dim - 2) * centre.sin().log()
    shortfall = versine - excess / mass
    return PolarLaw(centre, log_mass, log_normaliser, shortfall)


def tail(
    angle: Tensor,
    side: Tensor,
    concentration: Tensor,
    dim: int,
    effort: Effort | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Integrals from the angle to 0 (side -1) or :math:`\pi` (side 1), over the density at the angle.

    Returns:
        of :math:`f(s) / f(\varphi)`, and of :math:`(\cos s - \cos \varphi) f(s) / f(\varphi)`.
    """
    effort = effort or (_SINGLE if torch.finfo(angle.dtype).bits < 64 else _DOUBLE)
    end = (0.5 * math.pi * (1 + side) - side * angle).clamp(min=0)
    length = torch.minimum(_reach(angle.detach(), side, concentration.detach(), dim, effort.drop), end)
    half_length, slope = 0.5 * side * length, -2 * concentration
    if dim > 2:
        cotangent = angle.cos() / angle.sin()
    mass, excess = torch.zeros_like(length), torch.zeros_like(length)
    for node, weight in _nodes(effort, length):
        # sin(h) sin(angle + h) = (cos(angle) - cos(angle + 2 h)) / 2
        half = half_length * node
        sine = half.sin()
        difference = sine * (angle + half).sin()
        exponent = slope * difference
        if dim > 2:
            ratio = 2 * sine * (half.cos() * cotangent - sine)
            exponent = exponent + (dim - 2) * ratio.clamp(min=_LEAST).log1p()
        density = exponent.exp()
        if isinstance(node, Tensor):
            density = density * weight
            mass, excess = density.sum(0), (density * difference).sum(0)
        else:
            mass = torch.add(mass, density, alpha=float(weight))
            excess = torch.addcmul(excess, density, difference, value=float(weight))
    return mass * length, -2 * excess * length


_LEAST = -1 + 2.0**-20
"""Of a ratio of sines less 1: beyond it, at the very end of the range, rounding could reach -1."""


def _reach(angle: Tensor, side: Tensor, concentration: Tensor, dim: int, drop: float) -> Tensor:
    """How far from the angle the log-density has dropped by so much, or a little farther."""
    sine, cosine = angle.sin(), angle.cos()
    slope = side * concentration * sine
    curvature = concentration * cosine
    if dim > 2:
        slope = slope - side * (dim - 2) * cosine / sine
        curvature = curvature + (dim - 2) / sine.square()
    root = (slope.square() + 2 * drop * curvature).clamp(min=1e-30).sqrt()
    falling = 2 * drop / (slope.abs() + root)
    rising = (slope.abs() + root) / curvature.clamp(min=1e-30)
    # Below the angle the curvature only grows; above it shrinks.
    return torch.where(slope >= 0, falling, rising) * (1.25 + 0.25 * side)


def _nodes(effort: Effort, like: Tensor) -> Iterator[tuple[Tensor | float, Tensor | float]]:
    if len(effort.nodes) * like.numel() > _ALL_AT_ONCE:
        yield from zip(effort.nodes, effort.weights, strict=True)
        return
    column = (-1,) + (1,) * like.dim()
    yield like.new_tensor(effort.nodes).view(column), like.new_tensor(effort.weights).view(column)


def tail_probability(
    angle: Tensor, side: Tensor, concentration: Tensor, dim: int, law: PolarLaw
) -> Tensor:
    """The probability of the angles from this one to 0 (side -1) or pi (side 1)."""
    mass, _ = tail(angle, side, concentration, dim)
    relative = _relative_log_density(angle, concentration, dim, law.centre)
    return mass * (relative - law.log_mass).exp()


def _relative_log_density(angle: Tensor, concentration: Tensor, dim: int, centre: Tensor) -> Tensor:
    """With respect to the density at the centre."""
    sine = ((angle - centre) / 2).sin()
    log_density = -2 * concentration * sine * ((angle + centre) / 2).sin()
    if dim > 2:
        ratio = 2 * ((angle + centre) / 2).cos() * sine / centre.sin()
        near = ratio.abs() < 0.5
        close = torch.where(near, ratio, 0).log1p()
        log_density = log_density + (dim - 2) * torch.where(
            near, close, (angle.sin() / centre.sin()).log()
        )
    return log_density


def velocity(angle: Tensor, concentration: Tensor, dim: int) -> Tensor:
    r"""The implicit gradient :math:`d\varphi / d\kappa`, from the integral over the nearer tail."""

    def of_piece(angle: Tensor, concentration: Tensor, *law: Tensor) -> Tensor:
        centre, _, _, shortfall = law
        side = torch.where(angle < centre, -1.0, 1.0).to(angle.dtype)
        mass, excess = tail(angle, side, concentration, dim)
        return side * ((shortfall - 2 * (angle / 2).sin().square()) * mass + excess)

    concentration = unexpanded(concentration)
    return chunked(of_piece, angle, concentration, *_law(concentration, dim))


_SINGLE_STEPS = (_ROUGH, _SINGLE)
_DOUBLE_STEPS = (_ROUGH, _DOUBLE, _DOUBLE)


def quantile(normal: Tensor, concentration: Tensor, dim: int) -> Tensor:
    """The angle whose CDF is that of a standard normal at ``normal``.

    Steps of third order on the log of the nearer tail's probability, in the log-odds of the angle,
    from a cube-root approximation that matches their law at its mode.
    """

    def of_piece(normal: Tensor, concentration: Tensor, *law: Tensor) -> Tensor:
        return _solve(normal, concentration, dim, PolarLaw(*law))

    concentration = unexpanded(concentration)
    return chunked(of_piece, normal, concentration, *_law(concentration, dim))


def _solve(normal: Tensor, concentration: Tensor, dim: int, law: PolarLaw) -> Tensor:
    side = torch.where(normal < 0, -1.0, 1.0).to(normal.dtype)
    target = (0.5 * erfc(normal.abs() * math.sqrt(0.5))).log()
    odds = _start(normal, target, concentration, dim, law)
    for effort in _SINGLE_STEPS if torch.finfo(normal.dtype).bits < 64 else _DOUBLE_STEPS:
        angle = _angle(odds)
        sine, cosine = angle.sin(), angle.cos()
        mass, _ = tail(angle, side, concentration, dim, effort)
        reached = (
            mass.log() + _relative_log_density(angle, concentration, dim, law.centre) - law.log_mass
        )
        missing = reached - target
        # The log of the tail as a parabola in the log-odds.
        slope = sine / mass
        bend = slope * (slope + side * ((dim - 1) * cosine - concentration * sine.square()))
        step = 2 * missing / (slope + (slope.square() + 2 * bend * missing).clamp(min=0).sqrt())
        odds = odds + side * step.clamp(-3, 3)
    return _angle(odds)


def _angle(odds: Tensor) -> Tensor:
    """In the open interval, so that a sine is not 0."""
    return (2 * odds.exp().atan()).clamp(1e-15, math.pi * (1 - torch.finfo(odds.dtype).eps))


def _start(normal: Tensor, target: Tensor, concentration: Tensor, dim: int, law: PolarLaw) -> Tensor:
    """Twice the log-odds are roughly the log of an F ratio, whose cube root is nearly normal."""
    cosine, sine2 = law.centre.cos(), law.centre.sin().square()
    lower_spread = 2 / (9 * (dim - 1))
    upper_spread = lower_spread * sine2 / (1 + cosine.square())
    a, b = 1 - lower_spread, 1 - upper_spread
    z2 = normal.square()
    root = (a * a * upper_spread + b * b * lower_spread - lower_spread * upper_spread * z2).clamp(min=0)
    both = a * b + normal.abs() * root.sqrt()
    above = b * b - z2 * upper_spread
    below = (a * a - z2 * lower_spread).clamp(min=1e-30)
    cube_root = torch.where(normal < 0, below / both, both / above.clamp(min=0.01))
    centre = (law.centre / 2).tan().log()
    odds = centre + 1.5 * cube_root.log()
    # At either end the density is a power of the angle.
    power = (target + law.log_normaliser + math.log(dim - 1)) / (dim - 1) - math.log(2)
    top = -(power + 2 * concentration / (dim - 1))
    # It bounds the density from one side or the other.
    if dim <= 3:
        capped = torch.maximum(odds, top)
    else:
        capped = torch.where(4 * concentration <= dim - 3, torch.minimum(odds, top), odds)
    capped = torch.where(above < 0.05, top, capped)
    return torch.where(normal < 0, torch.maximum(odds, power), capped)
