r"""Where the hazard :math:`h(u) = \phi(u) / Q(u)` of a standard normal meets a number or a line.

There lie the modes of laws that are a normal, skewed. Both are found by Newton's method without a
gradient, from a point from which it is monotone, and differentiated implicitly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .implicit import implicit
from .normal_tail import HALF_LOG_2PI, hazard_and_excess, log_ndtr

_STEPS = 12


def excess_at_hazard(k: Tensor) -> Tensor:
    r"""The excess :math:`k - u` of the hazard where :math:`h(u) = k`, for :math:`k > 0`."""
    with torch.no_grad():
        # Both lie below the root: h(u) < (u + sqrt(u^2 + 4)) / 2, and h(u) < 2 phi(u) for negative u.
        near = (-2 * (k.log() + (HALF_LOG_2PI - math.log(2)))).clamp(min=0.0)
        u = torch.maximum(k - 1 / k, torch.where(near > 0, -near.sqrt(), -math.inf))
        for _ in range(_STEPS):
            log_hazard = -0.5 * u.square() - HALF_LOG_2PI - log_ndtr(-u)
            log_hazard = torch.where(u > 1, hazard_and_excess(u)[0].log(), log_hazard)
            u = u - (log_hazard - k.log()) / hazard_and_excess(u)[1]
        excess = hazard_and_excess(u)[1]
    return implicit(excess, _excess_velocity, k)


def _excess_velocity(excess: Tensor, k: Tensor) -> tuple[Tensor]:
    return (1 - 1 / (k * excess),)


def skewed_mode(alpha: Tensor) -> Tensor:
    r"""The root of :math:`z = \alpha h(-\alpha z)`, where :math:`\phi(z) \Phi(\alpha z)` is largest."""
    with torch.no_grad():
        log_square = 2 * alpha.abs().clamp(min=torch.finfo(alpha.dtype).tiny ** 0.25).log()
        # In the logarithm of t = alpha z, where the difference of both sides is convex.
        high = torch.minimum(log_square, 0.5 * (1 + 2 * log_square.clamp(min=0.0)).log() + math.log(2))
        y = high
        for _ in range(_STEPS):
            t = y.exp()
            log_hazard = -0.5 * t.square() - HALF_LOG_2PI - log_ndtr(t)
            y = y - (y - log_square - log_hazard) / (1 + t * (t + log_hazard.exp()))
        z = alpha * hazard_and_excess(-y.exp())[0]
    return implicit(z, _skewed_velocity, alpha)


def _skewed_velocity(z: Tensor, alpha: Tensor) -> tuple[Tensor]:
    t = alpha * z
    hazard, _ = hazard_and_excess(-t)
    slope = hazard * (t + hazard)
    return ((hazard - t * slope) / (1 + alpha * slope * alpha),)
