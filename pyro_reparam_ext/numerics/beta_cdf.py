"""The CDF of the Beta distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from .uniform_tail import uniform_tail

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
    :func:`~pyro_reparam_ext.numerics.uniform_tail.uniform_tail` where both concentrations are above
    3000. Relative error of that tail 1e-9, or 1e-5 where one is above 1e6 and the other below 3000; for
    values in float32 2e-6. The other one is what is left of 1, to 1e-9 of the whole: of laws with one
    concentration below 1e-3 and the other above 1e3 it may be the smaller one.

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
    # The coefficients are quotients of polynomials in m, whose terms are all positive or small.
    square, product, rise, flat = p * p, p * (p + q) * x, (2 * p + q) * x, q * x
    fraction = one = torch.ones_like(x)
    for m in range(depth, -1, -1):
        above = torch.add(product, rise, alpha=m).add(x, alpha=m * m)  # (p + m) (p + q + m) x
        below = torch.add(square, p, alpha=4 * m + 1).add(2 * m * (2 * m + 1))  # (p + 2m) (p + 2m + 1)
        fraction = torch.addcdiv(one, above, below * fraction, value=-1)
        if m:
            above = torch.add(flat, x, alpha=-m)  # (q - m) x
            below = torch.add(square, p, alpha=4 * m - 1).add(2 * m * (2 * m - 1))
            fraction = torch.addcdiv(one, above, below * fraction, value=m)
    log_front = p * x.log() + q * y.log() + torch.lgamma(p + q) - torch.lgamma(p) - torch.lgamma(q)
    return log_front.exp() / (p * fraction)


def _expansion(x: Tensor, y: Tensor, p: Tensor, q: Tensor) -> Tensor:
    total = p + q
    centre, rest = p / total, q / total
    # From the nearer end, where the value is known with its full precision.
    r = torch.where(x < y, x - centre, rest - y)
    r = torch.maximum(torch.minimum(r, rest * (1 - 1e-9)), -centre * (1 - 1e-9))
    # The signed root of twice the relative entropy between the means ``centre`` and ``centre + r``.
    half = -centre * (r / centre).log1p() - rest * (-r / rest).log1p()
    deviation = r.sign() * (2 * half).clamp(min=0).sqrt()
    product = centre * rest
    root = product.sqrt()
    # The square of the deviation is t^2 (1 + first t + second t^2 + third t^3 + ...).
    slant = (centre - rest) / root
    first, second = 2 / 3 * slant, 0.5 * (1 - 3 * product) / product
    third = 2 / 5 * slant * (1 - 2 * product) / product
    return uniform_tail(
        deviation,
        total,
        r / root,
        (centre + r) * (rest - r) / product,
        root,
        -first / 2,
        (product - 1) / (12 * product),
        first * second - 0.5 * (third + first**3),
    )
