"""The ends of the support of a univariate distribution."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import Distribution

BOUNDS = ("lower_bound", "upper_bound")


def bounds(fn: Distribution) -> tuple[Any, Any]:
    """The lower and the upper one; None where the support says nothing of it."""
    low, high = (getattr(fn.support, name, None) for name in BOUNDS)
    return low, high


def bounds_differ(fn: Distribution, event_dim: int) -> bool:
    """Whether one of them differs along the batch dim left of ``event_dim`` others."""
    return any(varies(x, event_dim) for x in bounds(fn) if isinstance(x, Tensor))


def varies(bound: Tensor, event_dim: int) -> bool:
    """Whether a bound differs along the dim left of ``event_dim`` others, by its layout alone."""
    if bound.dim() <= event_dim:
        return False
    dim = -1 - event_dim
    return bound.shape[dim] > 1 and bound.stride(dim) != 0
