"""The standardised value of a draw, whose gradient does not overflow with it."""

from __future__ import annotations

from torch import Tensor

from .implicit import implicit_joint


def standardised(z: Tensor, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """The given, finite ``z`` with the gradient of ``(value - loc) / scale``."""
    return implicit_joint(z.detach(), _pull_back, value, loc, scale)


def _pull_back(
    gradient: Tensor, z: Tensor, value: Tensor, loc: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    moved = gradient / scale
    return moved, -moved, -(gradient * z) / scale
