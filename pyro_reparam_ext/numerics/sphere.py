"""Directions: unit vectors at an angle from a given one, and how they move with it."""

from __future__ import annotations

import torch
from torch import Tensor


def direction_at(angle: Tensor, loc: Tensor) -> Tensor:
    """A random unit vector at this angle from ``loc``, uniform about it.

    Args:
        angle: of shape (...).
        loc: unit vectors, of a shape that broadcasts to (..., d).
    """
    noise = torch.randn(angle.shape + loc.shape[-1:], dtype=angle.dtype, device=angle.device)
    for _ in range(2):  # a second time for the digits that the first one cancels
        noise = noise - (noise * loc).sum(-1, keepdim=True) * loc
        noise = noise / torch.linalg.vector_norm(noise, dim=-1, keepdim=True)
    value = angle.cos().unsqueeze(-1) * loc + angle.sin().unsqueeze(-1) * noise
    return value / torch.linalg.vector_norm(value, dim=-1, keepdim=True)


def half_versine(value: Tensor, loc: Tensor) -> Tensor:
    r""":math:`\sin^2(\varphi / 2)` of the angle between unit vectors, precise where it is small."""
    return 0.25 * (value - loc).square().sum(-1)


def angle_between(value: Tensor, loc: Tensor) -> Tensor:
    """The angle between unit vectors, precise at both ends; inside of (0, pi)."""
    apart = torch.linalg.vector_norm(value - loc, dim=-1)
    together = torch.linalg.vector_norm(value + loc, dim=-1)
    least = torch.finfo(value.dtype).eps ** 2
    return 2 * torch.atan2(apart.clamp(min=least), together.clamp(min=torch.finfo(value.dtype).eps))


def away(value: Tensor, loc: Tensor, angle: Tensor) -> Tensor:
    """The derivative of the unit vector in its angle from ``loc``."""
    step = (value - loc) - 2 * (angle / 2).sin().square().unsqueeze(-1) * value
    return step / angle.sin().unsqueeze(-1)


def turned_by(gradient: Tensor, value: Tensor, loc: Tensor) -> Tensor:
    """The gradient in ``loc`` of a value that turns with it.

    The rotation is that of the plane in which ``loc`` moves; a change of its length does nothing.
    """
    cosine = (value * loc).sum(-1, keepdim=True)
    return cosine * gradient - (gradient * loc).sum(-1, keepdim=True) * value
