"""A choice between two finite tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def select(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """``torch.where``, for finite tensors: several times faster on a CPU."""
    return torch.lerp(other, chosen, mask.to(other.dtype))


def above(x: Tensor, bound: Tensor | float) -> Tensor:
    """1 where x is above the bound, else 0: a mask for :func:`select` without the way over booleans."""
    return (x.detach() - bound).detach().sign_().clamp_min_(0)
