"""The windows at the end of a run that may be averaged: a few, for which a few sums are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from .rule import LOOK, SPACING

BLOCKS = 8
"""Blocks that a run is cut into, at most: so many copies of the parameters are kept."""
SHORTEST = LOOK // SPACING
"""Rows of a block in the beginning: those between two looks."""


def block_length(rows: int) -> int:
    """The rows of a block: doubled whenever there are more than :data:`BLOCKS` of them."""
    length = SHORTEST
    while rows > BLOCKS * length:
        length *= 2
    return length


def starts(rows: int) -> list[int]:
    """The first rows of all windows that begin with a block and are at least half of the run.

    A fall that takes ten times as long is so seen in a window ten times as long. The first block, in
    which a run is far from where it ends, is in none of them.
    """
    length = block_length(rows)
    return list(range(length, rows // 2 + 1, length))


class BlockMeans:
    """The mean of all parameters over any of the windows, in memory of eight copies of them."""

    def __init__(self) -> None:
        self.rows = 0
        self._means: list[Tensor] = []

    def add(self, mean: Tensor, rows: int) -> None:
        """Takes the mean of the next rows, of shape ``(parameters,)``: of ten, or fewer at the end."""
        length = block_length(self.rows + rows)
        if length != block_length(self.rows):
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [torch.lerp(a, b, 0.5) for a, b in pairs]
        count = self.rows % length
        self.rows += rows
        if not count:
            self._means.append(mean.clone())
        else:
            self._means[-1].lerp_(mean, rows / (count + rows))

    def last(self, rows: int) -> tuple[Tensor, int]:
        """The mean of the last ``rows`` rows, and how many: those from the nearest block on."""
        length = block_length(self.rows)
        first = min(round((self.rows - rows) / length), len(self._means) - 1)
        mean, count = self._means[first].clone(), min(length, self.rows - first * length)
        for number in range(first + 1, len(self._means)):
            added = min(length, self.rows - number * length)
            count += added
            mean.lerp_(self._means[number], added / count)
        return mean, count
