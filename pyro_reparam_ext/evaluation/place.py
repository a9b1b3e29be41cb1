"""One place along the dims of evaluations, enumerated sites and particles, left of the plates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import CannotVectorize


@dataclass(frozen=True)
class Place:
    """The place ``index`` along the dims left of ``plates`` dims of plates, of the sizes ``shape``."""

    shape: tuple[int, ...]
    index: tuple[int, ...]
    plates: int

    def of(self, x: Tensor, events: int, what: str) -> Tensor:
        """The part of ``x`` that lies there; ``x`` has ``events`` event dims, and any of the others.

        Raises:
            CannotVectorize: ``x``, called ``what``, has other dims than these.
        """
        check_dims(x, events, self.plates, self.shape, what)
        lead = max(x.dim() - events - self.plates, 0)
        for index in self.index[len(self.index) - lead :]:
            x = x[index if x.shape[0] > 1 else 0]
        return x


def check_dims(x: Tensor, events: int, plates: int, shape: tuple[int, ...], what: str) -> None:
    """Raises where ``x`` has other dims left of the plates than those of ``shape``, or of size 1."""
    lead = x.shape[: max(x.dim() - events - plates, 0)]
    sizes = zip(reversed(lead), reversed(shape), strict=False)
    if len(lead) > len(shape) or any(size not in (1, good) for size, good in sizes):
        raise CannotVectorize(
            f"{what} has shape {tuple(x.shape)}, where {plates} dims of plates and, left of them, "
            f"{list(shape)} were expected"
        )


def some_indices(shape: tuple[int, ...], count: int) -> Iterator[tuple[int, ...]]:
    """``count`` places along dims of these sizes, picked at random; all if there are fewer."""
    for number in torch.randperm(torch.Size(shape).numel())[:count].tolist():
        yield unraveled(number, shape)


def unraveled(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index along each dim of the place ``number``, counted from the first."""
    return tuple(int(i) for i in np.unravel_index(number, shape))
