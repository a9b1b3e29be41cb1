r"""Uniform variables that keep away from each other: the Dirichlet copula.

With :math:`d` uniform on the simplex of :math:`n` parts, :math:`u_i = (1 - d_i)^{n - 1}` are uniform,
and two of them are hardly ever small at once. For :math:`n = 2` they are :math:`u` and :math:`1 - u`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..noise import standard_exponential


def others(first: Tensor, count: int) -> Tensor:
    """All but the first of ``count`` variables, given that; shape ``(count - 1, *first.shape)``."""
    shape = torch.Size((count - 1, *first.shape))
    parts = standard_exponential(shape, first)
    left = first ** (1 / (count - 1))  # of the simplex, for the others
    return (1 - left * parts / parts.sum(0)) ** (count - 1)


def both_below(bound: Tensor, count: int) -> Tensor:
    """The probability that two of ``count`` coupled variables are below ``bound``."""
    return (2 * bound ** (1 / (count - 1)) - 1).clamp(min=0) ** (count - 1)
