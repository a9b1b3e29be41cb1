"""Elementwise functions, evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PIECE = 2**15 - 2**12
"""Elements whose temporaries the allocator reuses at once, and which stay in the cache of a CPU."""


def in_pieces(function: Callable[..., Tensor], value: Tensor, *others: Tensor) -> Tensor:
    """``function(value, *others)`` for an elementwise function, along the first dim of ``value``.

    For functions of many temporaries on the CPU. A compiler fuses them, so that it gets the whole.

    Args:
        others: tensors that broadcast to the shape of ``value``.
    """
    if value.numel() <= PIECE or value.device.type != "cpu" or torch.compiler.is_compiling():
        return function(value, *others)
    rows = max(1, PIECE * value.shape[0] // value.numel())
    return torch.cat(
        [
            function(piece, *(_rows(x, value, i * rows, len(piece)) for x in others))
            for i, piece in enumerate(value.split(rows))
        ]
    )


def _rows(x: Tensor, value: Tensor, start: int, length: int) -> Tensor:
    if x.dim() < value.dim() or x.shape[0] == 1:
        return x
    return x.narrow(0, start, length)
