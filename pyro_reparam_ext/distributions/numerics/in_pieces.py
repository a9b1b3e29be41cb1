"""Elementwise functions, evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

PIECE = 2**15 - 2**12
"""Elements whose temporaries the allocator reuses at once, and which stay in the cache of a CPU."""

Tensors = TypeVar("Tensors", Tensor, tuple[Tensor, ...])


def in_pieces(function: Callable[..., Tensors], value: Tensor, *others: Tensor) -> Tensors:
    """``function(value, *others)`` for an elementwise function, along the first dim of ``value``.

    For functions of many temporaries on the CPU. A compiler fuses them, so that it gets the whole.

    Args:
        function: returns a tensor, or several, whose first dim is that of ``value``.
        others: tensors that broadcast to the shape of ``value``.
    """
    if value.numel() <= PIECE or value.device.type != "cpu" or torch.compiler.is_compiling():
        return function(value, *others)
    rows = max(1, PIECE * value.shape[0] // value.numel())
    results = [
        function(piece, *(_rows(x, value, i * rows, len(piece)) for x in others))
        for i, piece in enumerate(value.split(rows))
    ]
    if isinstance(results[0], tuple):
        return tuple(map(torch.cat, zip(*results, strict=True)))
    return torch.cat(results)


def _rows(x: Tensor, value: Tensor, start: int, length: int) -> Tensor:
    if x.dim() < value.dim() or x.shape[0] == 1:
        return x
    return x.narrow(0, start, length)
