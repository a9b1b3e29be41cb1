"""Densities and CDFs off the support: minus infinity, and 0 or 1.

A value off the support is replaced by one inside, before anything is computed, so that it leaves no
trace in a gradient either: that is 0 in the parameters and in the value. NaN stays NaN.

A class says what is needed of it: its ``support``, or ``_scored``, the values that its density is
extended to; and ``_interior``, a value inside, where its support does not give one or where the
density is no finite number at :func:`~pyro_reparam_ext.distributions.supports.bounds.between`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ..supports.bounds import between, beyond
from .half_precision import scored

Method = Callable[[Any, Tensor], Tensor]


def log_prob_on_support(log_prob: Method) -> Method:
    """Makes a method of a log density, given inside the support, one that is right everywhere.

    It checks values where validation is on.
    """

    return _checked(log_prob, on_support)


def cdf_on_support(cdf: Method) -> Method:
    """Makes a method of a CDF, given inside the support, one that is right everywhere.

    It checks values where validation is on.
    """

    return _checked(cdf, _cdf_anywhere)


def _checked(method: Method, anywhere: Callable[[Any, Tensor, Method], Tensor]) -> Method:
    @wraps(method)
    def checked(self: Any, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return anywhere(self, value, method)

    return checked


def _cdf_anywhere(fn: Any, value: Tensor, cdf: Method) -> Tensor:
    value = floating(value)
    below, above = beyond(fn.support, value)
    inside = scored(fn, torch.where(below | above, inside_of(fn, value), value), cdf)
    return torch.where(below, 0.0, torch.where(above, 1.0, inside))


def on_support(
    fn: Any,
    value: Tensor,
    log_density: Method,
    interior: Tensor | None = None,
) -> Tensor:
    """The log density of ``fn`` at any value, by one that holds inside the support.

    ``log_density``: of a distribution and a value. ``interior``: a value inside, where it is no
    attribute.
    """
    value = floating(value)
    constraint, events = _scored(fn), len(fn.event_shape)
    if events:
        dims = tuple(range(-events, 0))
        outside = ~(constraint.check(value) | value.detach().amax(dims).isnan())
        off = outside[(..., *(None,) * events)]
    else:
        below, above = beyond(constraint, value)
        off = outside = below | above
    log_prob = scored(fn, torch.where(off, inside_of(fn, value, interior), value), log_density)
    return torch.where(outside, -torch.inf, log_prob)


def floating(value: Tensor) -> Tensor:
    """Observed values may be integers."""
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def _scored(fn: Any) -> Any:
    return getattr(fn, "_scored", None) or fn.support


def inside_of(fn: Any, value: Tensor, given: Tensor | None = None) -> Tensor | float:
    """A value inside the support, in the dtype of others."""
    point = getattr(fn, "_interior", None) if given is None else given
    point = between(_scored(fn)) if point is None else point
    return point.detach().to(value) if isinstance(point, Tensor) else point
