"""Coefficients of control variates, fitted to what was measured in past steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..numerics.elimination import solved

DECAY = 0.99
"""Of the averages of past products."""
RIDGE = 1e-4
"""What is added to the correlation of each control variate with itself."""


class FittedCoefficients(nn.Module):
    r"""How much of each of several control variates to take: the least squares fit of past steps.

    .. math::
        c = \arg\min_c \sum \Big(t - \sum_k c_k F_k\Big)^2

    over the numbers of a target t and of control variates F, with decaying averages of the products.
    They are zero until something has been measured.
    """

    products: Tensor
    with_target: Tensor

    def __init__(self, count: int, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("products", like.new_zeros(count, count))
        self.register_buffer("with_target", like.new_zeros(count))

    def forward(self) -> Tensor:
        """The coefficients, shape ``(count,)``."""
        products = self.products
        identity = torch.eye(len(products), dtype=products.dtype, device=products.device)
        squares = (products * identity).sum(-1)
        sizes = torch.where(squares > 0, squares, 1.0).sqrt()
        # A control variate of 0 has no correlation, not even with itself.
        ridge = torch.where(squares > 0, RIDGE, 1.0)
        correlations = products / (sizes[:, None] * sizes) + ridge * identity
        return solved(correlations, self.with_target / sizes) / sizes

    @torch.no_grad()
    def note(self, variates: Sequence[Tensor], target: Tensor) -> None:
        """Takes note of control variates and of their target, all of one shape."""
        rows, numbers = torch.stack([x.flatten() for x in variates]), target.flatten()
        share = (1 - DECAY) / len(numbers)
        self.products.mul_(DECAY).add_(share * (rows @ rows.mT))
        self.with_target.mul_(DECAY).add_(share * (rows @ numbers))
