"""Elementwise functions, evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

PIECE = 2**17 - 2**13
"""Elements whose temporaries the allocator reuses at once, and which stay in the cache of a CPU."""

Tensors = TypeVar("Tensors", Tensor, tuple[Tensor, ...])


def chunked(function: Callable[..., Tensors], value: Tensor, *others: Tensor) -> Tensors:
    """``function(value, *others)`` for an elementwise function, along the first dim of ``value``.

    For functions of many temporaries on the CPU. A compiler fuses them, so that it gets the whole, and
    so does a graph that is recorded, which keeps them all anyway.

    Args:
        function: returns a tensor, or several, whose first dim is that of ``value``.
        others: tensors that broadcast to the shape of ``value``.
    """
    whole = value.numel() <= PIECE or value.device.type != "cpu"
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in (value, *others))
    if whole or recorded or torch.compiler.is_compiling():
        return function(value, *others)
    rows = max(1, PIECE * value.shape[0] // value.numel())
    results: tuple[Tensor, ...] = ()
    single = True
    for i, piece in enumerate(value.split(rows)):
        part = function(piece, *(_rows(x, value, i * rows, len(piece)) for x in others))
        single = isinstance(part, Tensor)
        parts = (part,) if isinstance(part, Tensor) else part
        # Copied while it is in the cache, so that the next piece takes its memory.
        results = results or tuple(x.new_empty(len(value), *x.shape[1:]) for x in parts)
        for result, x in zip(results, parts, strict=True):
            result.narrow(0, i * rows, len(piece)).copy_(x)
    return results[0] if single else results  # type: ignore[return-value]


def _rows(x: Tensor, value: Tensor, start: int, length: int) -> Tensor:
    if x.dim() < value.dim() or x.shape[0] == 1:
        return x
    return x.narrow(0, start, length)
