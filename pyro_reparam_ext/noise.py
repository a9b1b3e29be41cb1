"""Standard noise that every discrete or continuous sampler starts from."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform_like(x: Tensor) -> Tensor:
    """Uniform noise that is never 0 or 1, in the shape and dtype of ``x``."""
    info = torch.finfo(x.dtype)
    return torch.rand(x.shape, dtype=x.dtype, device=x.device).clamp(info.tiny, 1 - info.eps)


def gumbel_like(x: Tensor) -> Tensor:
    """Standard Gumbel noise in the shape and dtype of ``x``."""
    return -(-uniform_like(x).log()).log()


def logistic_like(x: Tensor) -> Tensor:
    """Standard logistic noise in the shape and dtype of ``x``."""
    return uniform_like(x).logit()
