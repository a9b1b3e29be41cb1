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
def leading_bits(count: int, dims: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The leading bits of the first points of the sequence, in which alone they differ.

    As whole numbers, shape ``(count, dims)``; and the place of each bit among all, from the last on.
    """
    from scipy.stats import qmc

    bits = max(count - 1, 1).bit_length()
    points = qmc.Sobol(dims, scramble=False, bits=BITS).random_base2(bits)[:count]
    places = 2 ** np.arange(BITS - bits, BITS).reshape(-1, 1)
    return (
        torch.tensor(np.rint(points * 2**bits).astype(np.int64), device=device),
        torch.tensor(places, device=device),
    )


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
    first, places = leading_bits(count, dims, like.device)
    drawn = torch.randint(0, 2**BITS, (1 + len(places), dims), device=like.device)
    # What the leading bits make, in the order of the numbers that they are.
    made, columns = drawn[:1], drawn[1:] & (places - 1) | places
    for number in range(len(places)):
        made = torch.cat([made, made ^ columns[number]])
    scrambled = made.gather(0, first)
    return (scrambled.double() + 0.5) / 2**BITS
