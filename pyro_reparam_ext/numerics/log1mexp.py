r"""The logarithm of :math:`1 - e^y`."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log1mexp(y: Tensor) -> Tensor:
    r""":math:`\log(1 - e^y)` for :math:`y < 0`, with full relative precision at both ends."""
    near = y > -math.log(2)
    y_near = torch.where(near, y, -torch.ones_like(y)).clamp(max=-torch.finfo(y.dtype).tiny)
    y_far = torch.where(near, -torch.ones_like(y), y)
    return torch.where(near, (-y_near.expm1()).log(), (-y_far.exp()).log1p())


def log_sigmoids(logit: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`\log x` and :math:`\log(1 - x)` for :math:`x = \mathrm{sigmoid}(\ell)`."""
    rest = (-logit.abs()).exp().log1p()
    return logit.clamp(max=0.0) - rest, (-logit).clamp(max=0.0) - rest
