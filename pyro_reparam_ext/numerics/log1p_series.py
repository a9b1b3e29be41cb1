r"""Series of :math:`\log(1 + s)` about 0, for quotients that lose their digits there."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 0.25
"""The series hold for ``|s| < NEAR``, to the precision of the dtype."""


def log1p_ratio(s: Tensor) -> Tensor:
    r""":math:`\log(1 + s) / s`, differentiable, for ``|s| < NEAR``.

    With :math:`v = s / (2 + s)` the logarithm is :math:`2\,\mathrm{artanh}\,v`, of which every second
    term is 0 and the others shrink at least by :math:`v^2 < 0.021`.
    """
    v = s / (2 + s)
    w = v * v
    # artanh(v) / v = 1 + w / 3 + w^2 / 5 + ...
    first, *others = (17, 15, 13, 11, 9, 7, 5, 3) if w.dtype == torch.float64 else (9, 7, 5, 3)
    rest = w / first + 1 / others[0]
    for k in others[1:]:
        rest = rest * w + 1 / k
    return (1 - v) * (1 + w * rest)
