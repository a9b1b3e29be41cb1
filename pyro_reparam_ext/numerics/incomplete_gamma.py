"""The regularised incomplete gamma functions, right for large concentrations too."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import gammainc as series
from torch.special import gammaincc as complement

from .uniform_tail import uniform_tail

LARGE = 1e5
"""Above it torch's series end before their sum is reached, some standard deviations from the mean."""


@torch.no_grad()
def gammainc(a: Tensor, x: Tensor) -> Tensor:
    """P(X <= x) for X ~ Gamma(a, 1); a constant.

    :func:`torch.special.gammainc`, whose relative error is 1e-9, and that of
    :func:`~pyro_reparam_ext.numerics.uniform_tail.uniform_tail` above concentrations of 1e5.
    """
    return _or_large(series(a.clamp(max=LARGE), x), a, x, 1.0)


@torch.no_grad()
def gammaincc(a: Tensor, x: Tensor) -> Tensor:
    """P(X > x), likewise."""
    return _or_large(complement(a.clamp(max=LARGE), x), a, x, -1.0)


@torch.no_grad()
def gamma_tail(a: Tensor, x: Tensor, upper: Tensor) -> Tensor:
    """P(X > x) where ``upper``, else P(X <= x), in the time of one of them."""
    small = a.clamp(max=LARGE)
    # At 0 and at infinity they take no time.
    above = complement(small, torch.where(upper, x, math.inf))
    below = series(small, torch.where(upper, 0.0, x))
    return _or_large(torch.where(upper, above, below), a, x, torch.where(upper, -1.0, 1.0).double())


def _or_large(small: Tensor, a: Tensor, x: Tensor, sign: Tensor | float) -> Tensor:
    size = a.double().clamp(min=LARGE)
    apart = ((x.double() - a) / size).clamp(-1 + 1e-15, 1e15)
    deviation = apart.sign() * (2 * (apart - apart.log1p())).clamp(min=0).sqrt()
    near = sign / 3, -1 / 12, sign * 2 / 135
    tail = uniform_tail(sign * deviation, size, sign * apart, 1 + apart, 1.0, *near)
    return torch.where(a > LARGE, tail.to(small.dtype), small)
