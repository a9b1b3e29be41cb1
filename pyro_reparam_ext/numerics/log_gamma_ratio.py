r"""Quotients of gamma functions, without the cancellation of two large logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from .stirling import SERIES

SHIFT = 8
"""Below it, arguments are raised by as much through the recurrence; above it, series reach 1e-13."""

_HALF = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224, -5461 / 425984)


def log_gamma_ratio(x: Tensor, d: Tensor) -> Tensor:
    r""":math:`\log \Gamma(x + d) - \log \Gamma(x)` for positive ``x`` and ``d``, differentiable.

    By differences of the terms of Stirling's series (Abramowitz, Stegun, *Handbook of Mathematical
    Functions*, 1964, 6.1.40).
    """
    low = x < SHIFT
    raised = torch.where(low, x + SHIFT, x)
    top = raised + d
    higher = (0.0, *SERIES[1:])
    rest = _odd_series(top, higher) - _odd_series(raised, higher) - d / (12 * raised * top)
    far = (raised - 0.5) * (d / raised).log1p() + d * (top.log() - 1) + rest
    safe = torch.where(low, x, torch.ones_like(x))
    steps = sum((d / (safe + k)).log1p() for k in range(SHIFT))
    return torch.where(low, far - steps, far)


def log_gamma_curvature(x: Tensor, d: Tensor) -> Tensor:
    r""":math:`\log \Gamma(x + 2 d) - 2 \log \Gamma(x + d) + \log \Gamma(x)` for positive arguments.

    Of the order of :math:`d^2` for small ``d``, with that precision.
    """
    small = d < 1
    step = torch.where(small, d, torch.full_like(d, 0.5))
    low = x < SHIFT
    centre = torch.where(low, x + SHIFT, x) + step
    q = step / centre
    square = q * q
    rest = 1 - square
    cubic = (6 * square - 3 * square**2 + square**3) / rest**3
    far = (
        (centre - 0.5) * (-square).log1p()
        + step * (q.log1p() - (-q).log1p())
        + (square / rest / 6 - cubic / (180 * centre**2)) / centre
    )
    higher = (0.0, 0.0, *SERIES[2:])
    ends = _odd_series(centre + step, higher) + _odd_series(centre - step, higher)
    far = far + (ends - 2 * _odd_series(centre, higher))
    start = torch.where(low, x, torch.ones_like(x)) + step
    steps = sum((-(step / (start + k)).square()).log1p() for k in range(SHIFT))
    by_steps = log_gamma_ratio(x + d, d) - log_gamma_ratio(x, d)
    return torch.where(small, torch.where(low, far - steps, far), by_steps)


def log_gamma_half_step(x: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`\log \Gamma(x + 1/2) - \log \Gamma(x) - \frac12 \log x`, and its derivative.

    It falls like :math:`-1 / 8x`; both are exact to the relative precision of the dtype for large
    ``x`` (Fields, *A Note on the Asymptotic Expansion of a Ratio of Gamma Functions*, 1966).
    """
    low = x < SHIFT
    raised = torch.where(low, x + SHIFT, x)
    inverse = 1 / raised
    slopes = tuple(-(2 * k + 1) * c for k, c in enumerate(_HALF))
    far, far_slope = _odd_series(raised, _HALF), _odd_series(raised, slopes) * inverse
    safe = torch.where(low, x, torch.ones_like(x))
    steps = sum((0.5 / (safe + k)).log1p() for k in range(SHIFT)) - 0.5 * (SHIFT / safe).log1p()
    slope_steps = sum(-0.5 / ((safe + k) * (safe + k + 0.5)) for k in range(SHIFT)) + 0.5 * SHIFT / (
        safe * (safe + SHIFT)
    )
    return torch.where(low, far - steps, far), torch.where(low, far_slope - slope_steps, far_slope)


def _odd_series(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """c0 / x + c1 / x^3 + ..."""
    inverse = 1 / x
    square = inverse * inverse
    total = torch.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * square + c
    return total * inverse
