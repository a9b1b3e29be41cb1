"""An array that grows at its end, without being copied each time."""

from __future__ import annotations

import torch
from torch import Tensor


class Growing:
    """Rows on the CPU, in memory of at most twice their size."""

    def __init__(self) -> None:
        self._memory = torch.zeros(0)
        self._count = 0

    @property
    def rows(self) -> Tensor:
        """All rows so far: a view."""
        return self._memory[: self._count]

    def extend(self, rows: Tensor) -> None:
        """Takes more rows, of one shape and type."""
        count = self._count + len(rows)
        if count > len(self._memory):
            memory = rows.new_zeros(2 * count, *rows.shape[1:], device="cpu")
            if self._count:
                memory[: self._count] = self.rows
            self._memory = memory
        self._memory[self._count : count] = rows
        self._count = count
