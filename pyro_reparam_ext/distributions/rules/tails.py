"""Both tails of a univariate distribution, each to its own relative precision where that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution

from ...numerics.beta_cdf import beta_tails
from ...numerics.incomplete_gamma import gammainc, gammaincc
from ...numerics.normal_tail import normal_cdf
from ...numerics.straight_through import straight_through
from ...numerics.student_tails import student_tails
from .dispatch import Rules

Tails = tuple[Tensor, Tensor]
Rule = Callable[[Any, Tensor], Tails]
_RULES: Rules[Rule] = Rules("cdf")
register_tails = _RULES.register
"""A decorator: :func:`tails` for some classes, and for what derives from them."""


def tails(fn: Distribution, value: Tensor) -> Tails:
    """P(X <= value) and P(X > value); without a rule for ``fn``, its ``cdf`` and one less that.

    Raises:
        NotImplementedError: there is no rule for ``fn``, and it has no CDF.
    """
    rule = _RULES.of(type(fn))
    if rule is not None:
        return rule(fn, value)
    cdf = fn.cdf(value)
    return cdf, 1 - cdf


def lower_tail(fn: Any, value: Tensor) -> Tensor:
    """P(X <= value) to its own precision, with the gradient of ``cdf``."""
    return straight_through(tails(fn, value)[0].detach(), fn.cdf(value))


def has_tails(fn: Distribution) -> bool:
    """Whether :func:`tails` knows the CDF, by its classes alone."""
    if isinstance(fn, TransformedDistribution) and type(fn).cdf is TransformedDistribution.cdf:
        return has_tails(fn.base_dist) and all(t.bijective for t in fn.transforms)
    # A class without a CDF inherits the one that raises.
    return _RULES.of(type(fn)) is not None or type(fn).cdf is not Distribution.cdf


@register_tails(torch.distributions.Normal)
def _normal(fn: torch.distributions.Normal, value: Tensor) -> Tails:
    z = (value - fn.loc) / fn.scale
    return normal_cdf(z), normal_cdf(-z)


@register_tails(torch.distributions.Laplace)
def _laplace(fn: torch.distributions.Laplace, value: Tensor) -> Tails:
    z = (value - fn.loc) / fn.scale
    tail = 0.5 * (-z.abs()).exp()
    return torch.where(z < 0, tail, 1 - tail), torch.where(z < 0, 1 - tail, tail)


@register_tails(torch.distributions.Cauchy)
def _cauchy(fn: torch.distributions.Cauchy, value: Tensor) -> Tails:
    # The angle at which the value is seen from the point at the height of one scale.
    z = (value - fn.loc) / fn.scale
    height = torch.ones_like(z)
    return torch.atan2(height, -z) / math.pi, torch.atan2(height, z) / math.pi


@register_tails(dist.Logistic)
def _logistic(fn: Any, value: Tensor) -> Tails:
    z = (value - fn.loc) / fn.scale
    return torch.sigmoid(z), torch.sigmoid(-z)


@register_tails(torch.distributions.Gumbel)
def _gumbel(fn: torch.distributions.Gumbel, value: Tensor) -> Tails:
    t = (-(value - fn.loc) / fn.scale).exp()
    return (-t).exp(), -(-t).expm1()


@register_tails(torch.distributions.HalfNormal)
def _half_normal(fn: torch.distributions.HalfNormal, value: Tensor) -> Tails:
    z = math.sqrt(0.5) * value / fn.scale
    return torch.erf(z), torch.erfc(z)


@register_tails(torch.distributions.HalfCauchy)
def _half_cauchy(fn: torch.distributions.HalfCauchy, value: Tensor) -> Tails:
    z = value / fn.scale
    return 2 / math.pi * z.atan(), 2 / math.pi * torch.atan2(torch.ones_like(z), z)


@register_tails(torch.distributions.Exponential)
def _exponential(fn: torch.distributions.Exponential, value: Tensor) -> Tails:
    z = -fn.rate * value
    return -z.expm1(), z.exp()


@register_tails(torch.distributions.Gamma)
def gamma_tails(fn: torch.distributions.Gamma, value: Tensor) -> Tails:
    z = fn.rate * value
    concentration = fn.concentration.expand(z.shape)
    return gammainc(concentration, z), gammaincc(concentration, z)


@register_tails(torch.distributions.Beta)
def beta_law_tails(fn: torch.distributions.Beta, value: Tensor) -> Tails:
    return beta_tails(value, fn.concentration1, fn.concentration0)


@register_tails(torch.distributions.StudentT)
def student_t_tails(fn: torch.distributions.StudentT, value: Tensor) -> Tails:
    below, above = student_tails((value - fn.loc) / fn.scale, fn.df)
    return below.to(value.dtype), above.to(value.dtype)


def to_base(fn: TransformedDistribution, value: Tensor) -> Tensor:
    for transform in reversed(fn.transforms):
        value = transform.inv(value)
    return value


def sign_of(fn: TransformedDistribution) -> Any:
    """1 if the transforms increase together, -1 if they decrease; a tensor if that depends on one."""
    sign: Any = 1
    for transform in fn.transforms:
        sign = sign * transform.sign
    return sign


@register_tails(TransformedDistribution)
def _transformed(fn: TransformedDistribution, value: Tensor) -> Tails:
    sign = sign_of(fn)
    below, above = tails(fn.base_dist, to_base(fn, value))
    if isinstance(sign, int):
        return (below, above) if sign == 1 else (above, below)
    return torch.where(sign > 0, below, above), torch.where(sign > 0, above, below)
