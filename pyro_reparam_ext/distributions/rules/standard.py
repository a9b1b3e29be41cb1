"""Location-scale families: a variable as a shift plus a scale times standard noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch import distributions as td

from .copies import unchecked
from .dispatch import Rules


class Standard(NamedTuple):
    """The law of ``shift + scale * noise``."""

    shift: Tensor | float
    scale: Tensor
    noise: TorchDistribution


Family = Callable[[Any], Standard]
FAMILIES: Rules[Family] = Rules()
register_standard = FAMILIES.register
"""A decorator: :func:`standard` for some classes, and for what derives from them."""


def standard(fn: Any) -> Standard:
    """The parts of ``fn``, of a family; the noise keeps those parameters that only shape it."""
    family = family_of(fn)
    assert family is not None
    return family(fn)


def family_of(fn: Any) -> Family | None:
    """The rule for the class of ``fn``, or that of any family with loc, scale and real support."""
    family = FAMILIES.of(type(fn))
    if family is not None:
        return family
    if isinstance(fn, dist.Stable):  # its loc depends on its coordinates
        return None
    named = {"loc", "scale"} <= set(fn.arg_constraints)
    return _location_scale if named and fn.support is constraints.real else None


def _location_scale(fn: Any) -> Standard:
    kept = {name: getattr(fn, name) for name in fn.arg_constraints}
    kept["loc"], kept["scale"] = torch.zeros_like(fn.loc), torch.ones_like(fn.scale)
    return Standard(fn.loc, fn.scale, unchecked(fn, type(fn), **kept))


@register_standard(td.Uniform)
def _uniform(fn: td.Uniform) -> Standard:
    zero, one = torch.zeros_like(fn.low), torch.ones_like(fn.high)
    return Standard(fn.low, fn.high - fn.low, unchecked(fn, dist.Uniform, low=zero, high=one))


@register_standard(td.Exponential)
def _exponential(fn: td.Exponential) -> Standard:
    noise = unchecked(fn, dist.Exponential, rate=torch.ones_like(fn.rate))
    return Standard(0.0, 1 / fn.rate, noise)


def _half(cls: type) -> Family:
    def family(fn: Any) -> Standard:
        return Standard(0.0, fn.scale, unchecked(fn, cls, scale=torch.ones_like(fn.scale)))

    return family


register_standard(td.HalfNormal)(_half(dist.HalfNormal))
register_standard(td.HalfCauchy)(_half(dist.HalfCauchy))


@register_standard(td.Weibull)
def _weibull(fn: td.Weibull) -> Standard:
    one = torch.ones_like(fn.scale)
    noise = unchecked(fn, dist.Weibull, scale=one, concentration=fn.concentration)
    return Standard(0.0, fn.scale, noise)
