"""The difference between the log-gamma function and Stirling's formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGE = 8.0
FURTHER = 15.0
"""From here on six terms of the series of the trigamma function are exact to 1e-13."""
_TRIGAMMA = {1: 1.0, 2: 1 / 2, 3: 1 / 6, 5: -1 / 30, 7: 1 / 42, 9: -1 / 30}
SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
"""Of the series in odd powers of 1 / a (Abramowitz, Stegun, 6.1.40)."""


def stirling_rest(a: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`\log \Gamma(a) - a \log a + a`, and its derivative :math:`\psi(a) - \log a`.

    Without the cancellation of large terms: about :math:`\frac12 \log(2 \pi / a)` and :math:`-1 / 2a`
    for large :math:`a`.
    """
    large = a > LARGE
    far = torch.where(large, a, torch.full_like(a, LARGE))
    near = torch.where(large, torch.full_like(a, LARGE), a)
    inverse = 1 / far
    square = inverse * inverse
    rest = torch.full_like(a, SERIES[-1])
    slope = torch.full_like(a, -SERIES[-1] * (2 * len(SERIES) - 1))
    for k in range(len(SERIES) - 2, -1, -1):
        rest = rest * square + SERIES[k]
        slope = slope * square - (2 * k + 1) * SERIES[k]
    by_series = 0.5 * (2 * math.pi * inverse).log() + rest * inverse
    log_near = near.log()
    direct = torch.lgamma(near) - near * log_near + near
    return (
        torch.where(large, by_series, direct),
        torch.where(large, slope * square - 0.5 * inverse, torch.digamma(near) - log_near),
    )


def trigamma_difference(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`\psi_1(a) - \psi_1(a + b)`, without their cancellation for large a."""
    large = a > FURTHER
    far = torch.where(large, a, FURTHER)
    inverse, inverse_total = 1 / far, 1 / (far + b)
    step = b * inverse * inverse_total
    power, difference, series = inverse_total, step, step
    for k in range(2, max(_TRIGAMMA) + 1):
        # 1 / a^k - 1 / (a + b)^k from those before.
        difference = inverse * difference + power * step
        power = power * inverse_total
        series = series + _TRIGAMMA.get(k, 0.0) * difference
    near = torch.where(large, FURTHER, a)
    return torch.where(large, series, torch.polygamma(1, near) - torch.polygamma(1, near + b))
