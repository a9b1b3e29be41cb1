"""Distributions of parameters in half precision, drawn from and scored in single precision.

Torch has no kernels of half precision for much of what is behind a draw or a density, and where it has,
every step rounds. So what is computed is that of the same distribution with its parameters in float32,
and only the result is rounded, inside the support where a rounded draw would leave it.

Relaxed values are held off the ends at a distance that their dtype sets: these are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..supports.bounds import bounds
from .copies import mapped

HALF = (torch.float16, torch.bfloat16)


def half_of(fn: Any) -> torch.dtype | None:
    """The dtype of a distribution's parameters where it is one of half precision."""
    if getattr(fn, "in_own_precision", False):
        return None
    for part in vars(fn).values():
        if isinstance(part, Tensor) and part.is_floating_point():
            return part.dtype if part.dtype in HALF else None
        if isinstance(part, Distribution):
            return half_of(part)
    return None


def in_single(fn: Any) -> Any:
    """The same distribution with its parameters in single precision, differentiable in them."""
    return mapped(fn, single)


def scored(fn: Any, value: Tensor, function: Callable[[Any, Tensor], Tensor]) -> Tensor:
    """``function(fn, value)``, in single precision where ``fn`` is in half."""
    half = half_of(fn)
    if half is None:
        return function(fn, value)
    result = function(in_single(fn), single(value))
    return result.to(torch.promote_types(half, value.dtype))


def drawn_in_single(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes a method that draws values serve parameters in half precision."""

    @wraps(draw)
    def drawn(self: Any, *args: Any, **options: Any) -> Tensor:
        half = half_of(self)
        if half is None:
            return draw(self, *args, **options)
        return _rounded(self, draw(in_single(self), *args, **options), half)

    return drawn


def single(x: Tensor) -> Tensor:
    """A tensor of half precision in single precision."""
    return x.float() if x.dtype in HALF else x


def _rounded(fn: Any, value: Tensor, dtype: torch.dtype) -> Tensor:
    info, rounded = torch.finfo(dtype), value.to(dtype)
    # At 0 a density may be infinite, and a logarithm is.
    underflows = (rounded == 0) & (value != 0)
    rounded = torch.where(underflows, (info.tiny * value.sign()).to(dtype), rounded)
    low, high = (None, None) if fn.event_shape or fn.support.is_discrete else bounds(fn)
    first = -info.max if low is None else _beside(low, value, info, 1)
    last = info.max if high is None else _beside(high, value, info, -1)
    if isinstance(first, Tensor) or isinstance(last, Tensor):
        ends = (torch.as_tensor(x, dtype=dtype, device=value.device) for x in (first, last))
        return rounded.clamp(*ends)
    return rounded.clamp(first, last)


def _beside(bound: Any, value: Tensor, info: Any, side: int) -> Any:
    """A number of a dtype just inside of a bound, which at the bound may have no density."""
    bound = torch.as_tensor(bound, device=value.device).detach().float().clamp(-info.max, info.max)
    moved = bound + side * (info.eps * bound.abs()).clamp(min=info.tiny)
    return moved.clamp(-info.max, info.max).to(getattr(torch, info.dtype))
