"""Indicators of subsets of one size."""

from __future__ import annotations

from pyro.distributions import constraints
from torch import Tensor


class KHot(constraints.Constraint):
    """Vectors of zeros and ones, k of them ones."""

    is_discrete = True
    event_dim = 1

    def __init__(self, k: int) -> None:
        self.k = k
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        hard = ((value == 0) | (value == 1)).all(-1)
        return hard & (value.sum(-1) == self.k)

    def __repr__(self) -> str:
        return f"KHot({self.k})"
