"""Permutation matrices and the stochastic matrices about them."""

from __future__ import annotations

import torch
from pyro.distributions import constraints
from torch import Tensor


class _RowStochastic(constraints.Constraint):
    """Square matrices of non-negative numbers whose rows sum to 1, up to rounding."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        tolerance = 8 * torch.finfo(value.dtype).eps * value.shape[-1]
        rows = ((value.sum(-1) - 1).abs() <= tolerance).all(-1)
        return rows & (value >= 0).flatten(-2).all(-1)


class _PermutationMatrix(constraints.Constraint):
    """Square matrices of zeros with a single 1 in each row and in each column."""

    is_discrete = True
    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        hard = ((value == 0) | (value == 1)).flatten(-2).all(-1)
        return hard & (value.sum(-1) == 1).all(-1) & (value.sum(-2) == 1).all(-1)


row_stochastic = _RowStochastic()
permutation_matrix = _PermutationMatrix()


def matrix_of(order: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix whose row i is the indicator of item ``order[..., i]``."""
    items = torch.arange(order.shape[-1], device=order.device)
    return (order.unsqueeze(-1) == items).to(dtype)
