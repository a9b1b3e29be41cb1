"""Logarithms of points of a simplex."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints


class _LogSimplex(constraints.Constraint):
    """Vectors whose exponentials sum to 1."""

    event_dim = 1

    def check(self, value: Any) -> Any:
        total = value.exp().sum(-1)
        return value.isfinite().all(-1) & ((total - 1).abs() < 1e-6)


log_simplex = _LogSimplex()


def normalized(x: Tensor) -> Tensor:
    """``log_softmax`` over the first dim, precise also for a component close to 0.

    The logarithm of the largest component is that of one plus all the others.
    """
    relative, largest = _largest(x)
    others = torch.where(largest, 0.0, relative.exp()).sum(0)
    tiny = torch.finfo(x.dtype).tiny
    return (relative - others.log1p()).clamp(max=-tiny)


def log_rest(log_x: Tensor) -> Tensor:
    """log(1 - x) for each component of a vector of the log-simplex, along the first dim."""
    _, largest = _largest(log_x)
    of_others = torch.where(largest, -torch.inf, log_x).logsumexp(0)
    # The others are at most one half.
    by_itself = (-torch.where(largest, -1.0, log_x).exp()).log1p()
    return torch.where(largest, of_others, by_itself)


def _largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The components relative to the largest, and which one that is."""
    value, where = x.max(0)
    index = torch.arange(x.shape[0], device=x.device).reshape((-1,) + (1,) * where.dim())
    return x - value, index == where
