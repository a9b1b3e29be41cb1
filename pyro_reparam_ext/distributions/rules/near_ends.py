"""The mass between an end of the support and a value beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...numerics.quadrature import gauss_legendre
from ..supports.bounds import bounds

NODES, WEIGHTS = gauss_legendre(8)
NEAR = 0.5
"""As much as the log density may change on the way for the nodes to give all digits."""


@torch.no_grad()
def near_ends(fn: Any, value: Tensor, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Both tails, where one is small since the value is beside an end by the density there.

    A difference of the CDFs of a law that is cut off has no relative precision there.
    """
    low, high = bounds(fn)
    below, above = _beside(fn, value, low, below, above)
    above, below = _beside(fn, value, high, above, below)
    return below, above


def _beside(fn: Any, value: Tensor, end: Any, mass: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    finite = end.isfinite() & (mass < 1e-3)
    apart = torch.where(finite, value - end, 0.0)
    start = torch.where(finite, end, value)
    column = (-1, *(1,) * apart.dim())
    nodes, weights = (
        torch.tensor(x, dtype=apart.dtype, device=apart.device).view(column) for x in (NODES, WEIGHTS)
    )
    log_density = fn.log_prob(start + apart * nodes)
    near = finite & (log_density.amax(0) - log_density.amin(0) < NEAR)
    integral = apart.abs() * (weights * log_density.exp()).sum(0)
    return torch.where(near, integral, mass), torch.where(near, 1 - integral, rest)
