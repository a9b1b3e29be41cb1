"""What Stirling's formula leaves of the log-gamma function."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGE = 8.0
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


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
    rest = torch.full_like(a, _SERIES[-1])
    slope = torch.full_like(a, -_SERIES[-1] * (2 * len(_SERIES) - 1))
    for k in range(len(_SERIES) - 2, -1, -1):
        rest = rest * square + _SERIES[k]
        slope = slope * square - (2 * k + 1) * _SERIES[k]
    by_series = 0.5 * (2 * math.pi * inverse).log() + rest * inverse
    log_near = near.log()
    direct = torch.lgamma(near) - near * log_near + near
    return (
        torch.where(large, by_series, direct),
        torch.where(large, slope * square - 0.5 * inverse, torch.digamma(near) - log_near),
    )
