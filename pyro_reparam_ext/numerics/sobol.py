"""Sobol points under a fresh scramble."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

BITS = 30
MOST = 21_201
"""Dims that have direction numbers."""


@lru_cache(maxsize=8)
def sobol_points(count: int, dims: int) -> np.ndarray:
    """The first points of the sequence, unscrambled, as whole numbers of :data:`BITS` bits."""
    from scipy.stats import qmc

    engine = qmc.Sobol(dims, scramble=False, bits=BITS)
    points = engine.random_base2(max(count - 1, 0).bit_length())[:count]
    return np.rint(points * 2**BITS).astype(np.int64)


def scrambled_sobol(count: int, dims: int, like: Tensor) -> Tensor:
    r"""Points of (0, 1) under a random linear scramble and digital shift, shape ``(count, dims)``.

    With a random lower triangular matrix :math:`L` of bits and a random vector :math:`s` for each dim,
    :math:`L x + s` in the arithmetic of bits: each point is uniform, and together they keep their
    discrepancy. In float64, half a step off the ends.

    References:
        Matousek, *On the L2-Discrepancy for Anchored Boxes*, 1998,
        https://doi.org/10.1006/jcom.1998.0489. Joe, Kuo, 2008, for the direction numbers.

    Args:
        count: number of points; a power of 2 for all of their balance.
        dims: at most :data:`MOST`.
        like: a tensor on the device that they are wanted on.
    """
    points = torch.tensor(sobol_points(count, dims), device=like.device)
    # The first points differ in their leading bits only.
    leading = range(BITS - 1, BITS - 1 - max(count - 1, 1).bit_length(), -1)
    places = torch.tensor([[2**place] for place in leading], device=like.device)
    drawn = torch.randint(0, 2**BITS, (1 + len(leading), dims), device=like.device)
    scrambled, columns = drawn[0].expand(count, dims), drawn[1:] & (places - 1) | places
    for place, column in zip(leading, columns.unbind(), strict=True):
        scrambled = scrambled ^ (column * (points >> place & 1))
    return (scrambled.double() + 0.5) / 2**BITS
