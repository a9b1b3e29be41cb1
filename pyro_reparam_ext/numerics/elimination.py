"""Gaussian elimination, for a handful of equations."""

from __future__ import annotations

import torch
from torch import Tensor


def solved(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution of ``matrix @ x = right``, for a positive definite matrix of a few rows.

    By elimination: compiled code has no kernel for the inverse, and a failed one would wait for a GPU.
    """
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    rows = torch.cat([matrix, right[:, None]], 1)
    for number in range(len(matrix)):
        pivot = rows[number] / rows[number, number]
        rows = rows - (rows[:, number] - identity[number])[:, None] * pivot
    return rows[:, -1]
