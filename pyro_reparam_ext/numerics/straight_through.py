"""A hard value with the gradient of a soft one."""

from __future__ import annotations

from torch import Tensor


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard``, bit for bit, with the gradient of ``soft``."""
    return hard + (soft - soft.detach())
