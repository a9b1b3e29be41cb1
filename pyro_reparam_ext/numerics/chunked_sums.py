"""Sums over draws of elementwise functions, evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size, Tensor

from .chunked import PIECE


def chunked_sums(
    function: Callable[..., tuple[Tensor, ...]], shape: Size, value: Tensor, *others: Tensor
) -> tuple[Tensor, ...]:
    """Each result of ``function(value, *others)``, elementwise, summed to ``shape``.

    The sum of a piece is taken while the piece is in the cache of the CPU, and no result is ever as
    large as ``value``. Where the graph is recorded, for a second derivative, all is evaluated at once.

    Args:
        shape: broadcasts to the shape of ``value``.
        others: tensors that broadcast to ``shape`` or have the shape of ``value``.
    """

    def summed(value: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.sum_to_size(shape) for x in function(value, *others))

    over_rows = value.dim() > len(shape) or value.dim() > 0 and shape[0] == 1
    whole = value.numel() <= PIECE or value.device.type != "cpu" or not over_rows
    if whole or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return summed(value, *others)
    rows = max(1, PIECE * value.shape[0] // value.numel())
    full = [x.split(rows) if x.shape == value.shape else None for x in others]
    pieces = [
        summed(piece, *(x if s is None else s[i] for x, s in zip(others, full, strict=True)))
        for i, piece in enumerate(value.split(rows))
    ]
    return tuple(torch.stack(x).sum(0) for x in zip(*pieces, strict=True))
