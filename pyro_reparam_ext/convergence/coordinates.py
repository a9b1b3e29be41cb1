"""The coordinates of parameters that are watched: all of them, or a bounded number spread over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

WATCHED = 100
"""Coordinates that are watched, at most: the time of a look and the memory of the trace are theirs."""


def watched(sizes: Sequence[int], limit: int = WATCHED) -> list[Tensor]:
    """The coordinates to watch of parameters of these sizes, the same at any time.

    Small parameters are watched as a whole, and larger ones have equal shares of what is left, evenly
    spread over them. Where there are more parameters than ``limit``, one coordinate each of evenly
    spread ones is watched.

    Returns:
        Places in each of the flattened parameters.

    Example:
        >>> [len(places) for places in watched([1, 4, 3000, 500], limit=25)]
        [1, 4, 10, 10]
        >>> watched([9], limit=3)
        [tensor([0, 4, 8])]
    """
    if len(sizes) > limit:
        chosen = set(_spread(len(sizes), limit).tolist())
        return [_spread(size, int(i in chosen)) for i, size in enumerate(sizes)]
    shares, left = [0] * len(sizes), limit
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for turn, i in enumerate(order):
        shares[i] = min(sizes[i], left // (len(sizes) - turn))
        left -= shares[i]
    return [_spread(size, share) for size, share in zip(sizes, shares, strict=True)]


def labels(params: Mapping[str, Tensor], places: Sequence[Tensor]) -> list[str]:
    """The names of watched coordinates, such as ``weight[3, 0]``."""
    found = []
    for (name, param), own in zip(params.items(), places, strict=True):
        if not param.dim():
            found += [name] * len(own)
            continue
        indices = np.unravel_index(own.numpy(), tuple(param.shape))
        found += [f"{name}[{', '.join(map(str, index))}]" for index in zip(*indices, strict=True)]
    return found


def _spread(size: int, count: int) -> Tensor:
    """So many of the places 0, 1, ..., ``size - 1``."""
    count = min(count, size)
    if count < 2:
        return torch.arange(count)
    return torch.linspace(0, size - 1, count, dtype=torch.float64).round().long()
