"""The ends of the support of a univariate distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

BOUNDS = ("lower_bound", "upper_bound")
OPEN_BELOW = (constraints.greater_than,)
OPEN_ABOVE = (constraints.less_than, constraints.half_open_interval)


def bounds(fn: Distribution) -> tuple[Any, Any]:
    """The lower and the upper one; None where the support says nothing of it."""
    return bounds_of(fn.support)


def bounds_of(support: Any) -> tuple[Any, Any]:
    if isinstance(support, type(constraints.boolean)):
        return 0, 1
    low, high = (getattr(support, name, None) for name in BOUNDS)
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


def beyond(support: Any, value: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a value is below the support or above it, as an infinite one always is; not where NaN."""
    largest = torch.finfo(value.dtype).max
    low, high = (
        x.detach().clamp(-largest, largest) if isinstance(x, Tensor) else x for x in bounds_of(support)
    )
    if low is not None and isinstance(support, OPEN_BELOW):
        below = value <= low
    else:
        below = value < (-largest if low is None else low)
    if high is not None and isinstance(support, OPEN_ABOVE):
        return below, value >= high
    return below, value > (largest if high is None else high)


def between(support: Any) -> Tensor | float:
    """A value inside, which is no bound: at a bound a density may have no gradient."""
    low, high = bounds_of(support)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return _between(*(_detached(x, end) for x, end in ((low, -torch.inf), (high, torch.inf))))
    if low is None:
        return 0.0 if high is None else high - (1.0 + abs(high))
    return low + (1.0 + abs(low)) if high is None else 0.5 * low + 0.5 * high


def _detached(bound: Any, otherwise: float) -> Tensor:
    return torch.as_tensor(otherwise if bound is None else bound).detach()


def _between(low: Tensor, high: Tensor) -> Tensor:
    from_low = torch.where(low.isfinite(), low + (1 + low.abs()), 0.0)
    one_sided = torch.where(high.isfinite(), high - (1 + high.abs()), from_low)
    both = low.isfinite() & high.isfinite()
    return torch.where(both, 0.5 * low + 0.5 * high, one_sided)
