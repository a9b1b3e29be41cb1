"""Standard noise that is never 0."""

from __future__ import annotations

import torch
from torch import Size, Tensor


def standard_uniform(shape: Size, like: Tensor) -> Tensor:
    """Uniform on (0, 1), both excluded: a shift by less than half of the step keeps it off 0."""
    u = torch.rand(shape, dtype=like.dtype, device=like.device)
    return u.add_(torch.finfo(u.dtype).eps / 8)


def standard_exponential(shape: Size, like: Tensor) -> Tensor:
    """By the logarithm of a uniform, which is vectorised on a CPU, unlike ``exponential_``."""
    return standard_uniform(shape, like).log_().neg_()
