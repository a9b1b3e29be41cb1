"""The multivariate gamma function."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_multigamma(x: Tensor, dim: int) -> Tensor:
    r""":math:`\log \Gamma_p(x)` for :math:`p` = ``dim``."""
    return 0.25 * dim * (dim - 1) * math.log(math.pi) + torch.lgamma(_steps(x, dim)).sum(-1)


def multidigamma(x: Tensor, dim: int) -> Tensor:
    """Its derivative."""
    return torch.digamma(_steps(x, dim)).sum(-1)


def _steps(x: Tensor, dim: int) -> Tensor:
    return x[..., None] - 0.5 * torch.arange(dim, dtype=x.dtype, device=x.device)
