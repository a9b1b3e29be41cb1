"""Components of a mixture, and what it asks of them: a density everywhere, a CDF, and a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
)

from ..supports.bounds import beyond, bounds_differ
from .discrete_cdf import discrete_cdf
from .on_support import inside_of
from .pathwise import has_pathwise
from .tails import has_tails, lower_tail, tails


def univariate(fn: Any) -> Any:
    """The distribution below ``to_event``: of a coordinate, or of a vector that isn't made of any."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def obstacle(component: Distribution) -> str | None:
    """Why a mixture of these components has no pathwise gradient; None where it has one."""
    base = univariate(component)
    name = type(base).__name__
    if base.event_shape:
        return f"the coordinates of {name} are not known to be independent within a component"
    if isinstance(base, MixtureSameFamily):
        inner = obstacle(base.component_distribution)
        if inner is not None:
            return inner
    if base.support.is_discrete:
        return f"{name} is discrete"
    if not has_tails(base):
        return (
            f"the CDF of {name} is not known: give it a method cdf(value) that is differentiable in its"
            " parameters, or take ImplicitUnivariate(parameters, log_density=...), which finds the CDF"
            " by itself"
        )
    if not has_pathwise(base):
        return (
            f"{name} has neither a rule for its pathwise gradient nor a method cdf(value) that is"
            " differentiable in its parameters: register a rule with pathwise.register_pathwise, or"
            " take the class of that name in this package, or ImplicitUnivariate"
        )
    if component.event_shape and bounds_differ(base, len(component.event_shape)):
        return (
            f"the support of {name} differs between components, so that the later coordinates jump when"
            " an earlier one crosses a bound: give the bounds one value for all components, as a number"
        )
    return None


def split(fn: Any, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether the value is below or above the support, and a value inside of it where it is."""
    below, above = beyond(fn.support, value)
    return below, above, torch.where(below | above, inside_of(fn, value), value)


def both_tails(fn: Any, parts: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The CDF and the survival function of what :func:`split` found."""
    under, over, inside = parts
    below, above = tails(fn, inside)
    below = torch.where(under, 0.0, torch.where(over, 1.0, below))
    return below, torch.where(under, 1.0, torch.where(over, 0.0, above))


def log_density(fn: Any, value: Tensor) -> Tensor:
    """The log density of each component, minus infinity off its support."""
    if fn.support.is_discrete:
        return _log_probability(fn, value)
    if fn.event_shape:
        return _vector_log_density(fn, value)
    below, above, inside = split(fn, value)
    return torch.where(below | above, -torch.inf, fn.log_prob(inside))


def _log_probability(fn: Any, value: Tensor) -> Tensor:
    outside = ~fn.support.check(value)
    if fn.event_shape:  # of vectors, no one value serves all: their log_prob is defined off the support
        return torch.where(outside, -torch.inf, fn.log_prob(value))
    low = getattr(fn.support, "lower_bound", 0)
    low = low.to(value.dtype) if isinstance(low, Tensor) else low
    scored = fn.log_prob(torch.where(outside, low, value))
    return torch.where(outside & (value == value), -torch.inf, scored)


def _vector_log_density(fn: Any, value: Tensor) -> Tensor:
    if hasattr(fn, "_interior") or not _has_mean(fn):
        return fn.log_prob(value)
    dims = tuple(range(-len(fn.event_shape), 0))
    outside = ~(fn.support.check(value) | value.detach().amax(dims).isnan())
    off = outside[(..., *(None,) * len(dims))]
    return torch.where(outside, -torch.inf, fn.log_prob(torch.where(off, fn.mean.detach(), value)))


def _has_mean(fn: Any) -> bool:
    return type(fn).mean is not Distribution.mean and not fn.support.is_discrete


def cdf(fn: Any, value: Tensor) -> tuple[Tensor, Tensor]:
    """The CDF of each component, and where it is 1."""
    if fn.support.is_discrete:
        value = value.floor()
        below, above = beyond(fn.support, value)
        inside = discrete_cdf(fn, torch.where(below | above, inside_of(fn, value), value))
    else:
        below, above, within = split(fn, value)
        inside = lower_tail(fn, within)
    return torch.where(below, 0.0, torch.where(above, 1.0, inside)), above
