"""The CDF of the Beta distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_DEPTH = {torch.float64: 80}
"""Of the continued fraction; 40 for the other dtypes of values."""
_LARGE = {torch.float64: 3000.0}
"""Where both concentrations are above it, the uniform asymptotic expansion; 500 for other dtypes."""


def beta_tails(
    value: Tensor, a: Tensor, b: Tensor, complement: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""P(X <= value) and P(X > value) for X ~ Beta(a, b); constants, without a gradient.

    From the tail that is smaller than about one half, in float64: the continued fraction of the
    regularised incomplete beta function (NIST Digital Library of Mathematical Functions, 8.17.22), and
    two terms of Temme's uniform expansion (the same, 8.18.9) for large concentrations. Relative error
    of that tail 1e-10, or 3e-7 where both concentrations are large, and 1e-5 where one is 1e9; for
    values in float32 2e-6.

    Args:
        complement: :math:`1 - x`, where it is known more precisely than by the difference.
    """
    with torch.no_grad():
        x, p, q = value.double(), a.double(), b.double()
        y = 1 - x if complement is None else complement.double()
        tiny = torch.finfo(value.dtype).tiny
        x, y = x.clamp(min=tiny), y.clamp(min=tiny)
        upper = x * (p + q + 2) > p + 1
        x, y = torch.where(upper, y, x), torch.where(upper, x, y)
        p, q = torch.where(upper, q, p), torch.where(upper, p, q)
        large = torch.minimum(p, q) > _LARGE.get(value.dtype, 500.0)
        fraction = _by_fraction(x, y, p, q, _DEPTH.get(value.dtype, 40))
        tail = torch.where(large, _expansion(x, y, p, q), fraction)
        tail = tail.clamp(0, 1)
        below, above = torch.where(upper, 1 - tail, tail), torch.where(upper, tail, 1 - tail)
        return below.to(value.dtype), above.to(value.dtype)


def _by_fraction(x: Tensor, y: Tensor, p: Tensor, q: Tensor, depth: int) -> Tensor:
    fraction = torch.ones_like(x)
    for m in range(depth, -1, -1):
        odd = (p + m) * (p + q + m) / ((p + 2 * m) * (p + (2 * m + 1)))
        fraction = 1 - odd * x / fraction
        if m:
            even = m * (q - m) / ((p + (2 * m - 1)) * (p + 2 * m))
            fraction = 1 + even * x / fraction
    log_front = p * x.log() + q * y.log() + torch.lgamma(p + q) - torch.lgamma(p) - torch.lgamma(q)
    return log_front.exp() / (p * fraction)


def _expansion(x: Tensor, y: Tensor, p: Tensor, q: Tensor) -> Tensor:
    total = p + q
    centre, rest = p / total, q / total
    # From the nearer end, where the value is known with its full precision.
    r = torch.where(x < y, x - centre, rest - y)
    eta = _deviation(r, centre, rest)
    # A difference of poles at 0, which is regular there, and so is taken beside it.
    near = 1e-5 * centre * rest
    beside = torch.where(r.abs() < near, near, r)
    correction = 1 / _deviation(beside, centre, rest) - (centre * rest).sqrt() / beside
    density = (-0.5 * total * eta.square()).exp() / (2 * math.pi * total).sqrt()
    return 0.5 * torch.erfc(-eta * (0.5 * total).sqrt()) + density * correction


def _deviation(r: Tensor, centre: Tensor, rest: Tensor) -> Tensor:
    """The signed root of twice the relative entropy between the means ``centre`` and ``centre + r``."""
    r = torch.maximum(torch.minimum(r, rest * (1 - 1e-9)), -centre * (1 - 1e-9))
    half = centre * (r / centre).log1p() + rest * (-r / rest).log1p()
    return r.sign() * (-2 * half).clamp(min=0).sqrt()
