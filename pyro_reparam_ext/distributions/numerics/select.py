"""A choice between two finite tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def select(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """``torch.where``, for finite tensors: several times faster on a CPU."""
    return torch.lerp(other, chosen, mask.to(other.dtype))
