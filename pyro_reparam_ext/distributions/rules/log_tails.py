r"""CDF and survival function in logarithms, with inverses.

What :class:`~pyro_reparam_ext.distributions.Truncated` uses where a probability itself would
underflow or round to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution
from torch.nn.functional import logsigmoid
from torch.special import erfinv

from ...numerics.log1mexp import log1mexp
from ...numerics.normal_tail import log_ndtr, normal_quantile
from .copies import mapped
from .dispatch import Rules
from .tails import sign_of, tails, to_base

_LOG_2 = math.log(2)

Function = Callable[[Any, Tensor], Tensor]


class LogTails(NamedTuple):
    """Functions of a distribution and a value, or a log probability."""

    log_cdf: Function
    log_survival: Function
    from_log_cdf: Function
    from_log_survival: Function
    exact: bool = True
    """Whether quantiles of the upper tail have relative precision, too."""


_TAILS: Rules[LogTails] = Rules("cdf", "icdf")
register_log_tails = _TAILS.register


def log_tails(fn: Distribution) -> LogTails:
    """The tails of the class or of a base class, or by a transform, else by ``tails`` and ``icdf``."""
    found = _TAILS.of(type(fn)) or BY_CDF
    if found is _TRANSFORMED and isinstance(fn, TransformedDistribution):
        return _TRANSFORMED._replace(exact=log_tails(fn.base_dist).exact)
    return found


def _floor(log_probability: Tensor) -> Tensor:
    return log_probability.clamp(max=-torch.finfo(log_probability.dtype).tiny)


def _symmetric(log_cdf: Callable[[Tensor], Tensor], quantile: Callable[[Tensor], Tensor]) -> LogTails:
    """A symmetric location-scale family, from its standard log-CDF and the inverse of that."""
    return LogTails(
        lambda fn, x: log_cdf((x - fn.loc) / fn.scale),
        lambda fn, x: log_cdf((fn.loc - x) / fn.scale),
        lambda fn, p: fn.loc + fn.scale * quantile(p),
        lambda fn, p: fn.loc - fn.scale * quantile(p),
    )


def _laplace_log_cdf(z: Tensor) -> Tensor:
    return torch.where(z < 0, z - _LOG_2, torch.log1p(-0.5 * (-z.clamp(min=0.0)).exp()))


def _laplace_quantile(log_p: Tensor) -> Tensor:
    upper = -_LOG_2 - log1mexp(_floor(log_p).clamp(min=-_LOG_2))
    return torch.where(log_p < -_LOG_2, log_p + _LOG_2, upper)


def _logistic_quantile(log_p: Tensor) -> Tensor:
    log_p = _floor(log_p)
    return log_p - log1mexp(log_p)


def _cauchy_log_cdf(z: Tensor) -> Tensor:
    return (torch.atan2(torch.ones_like(z), -z) / math.pi).log()


def _cauchy_quantile(log_p: Tensor) -> Tensor:
    """The quantile, from the nearer end, since 1 / tan is as precise as its argument."""
    tiny = torch.finfo(log_p.dtype).tiny
    lower = 1 / torch.tan(math.pi * log_p.exp().clamp(tiny, 0.5))
    upper = 1 / torch.tan(math.pi * (-torch.expm1(log_p)).clamp(tiny, 0.5))
    return torch.where(log_p < -_LOG_2, -lower, upper)


register_log_tails(torch.distributions.Normal)(_symmetric(log_ndtr, normal_quantile))
register_log_tails(torch.distributions.Laplace)(_symmetric(_laplace_log_cdf, _laplace_quantile))
register_log_tails(dist.Logistic)(_symmetric(logsigmoid, _logistic_quantile))
register_log_tails(torch.distributions.Cauchy)(_symmetric(_cauchy_log_cdf, _cauchy_quantile))


def _gumbel_log_survival(fn: Any, x: Tensor) -> Tensor:
    z = (x - fn.loc) / fn.scale
    far = z > 12
    near = log1mexp(-(-torch.where(far, 0.0, z)).exp())
    return torch.where(far, -z - 0.5 * (-z.clamp(min=0.0)).exp(), near)


def _gumbel_from_log_survival(fn: Any, log_p: Tensor) -> Tensor:
    log_p = _floor(log_p)
    far = log_p < -12
    near = -(-log1mexp(torch.where(far, -1.0, log_p))).log()
    return fn.loc + fn.scale * torch.where(far, -log_p - 0.5 * log_p.exp(), near)


register_log_tails(torch.distributions.Gumbel)(
    LogTails(
        lambda fn, x: -((fn.loc - x) / fn.scale).exp(),
        _gumbel_log_survival,
        lambda fn, p: fn.loc - fn.scale * (-_floor(p)).log(),
        _gumbel_from_log_survival,
    )
)
register_log_tails(torch.distributions.Exponential)(
    LogTails(
        lambda fn, x: log1mexp(-fn.rate * x),
        lambda fn, x: -fn.rate * x,
        lambda fn, p: -log1mexp(_floor(p)) / fn.rate,
        lambda fn, p: -p / fn.rate,
    )
)


def _half(
    log_central: Callable[[Tensor], Tensor],
    log_survival: Callable[[Tensor], Tensor],
    central_quantile: Callable[[Tensor], Tensor],
) -> LogTails:
    """The absolute value of a symmetric base, from its central probability where that is small."""

    def log_cdf(fn: Any, x: Tensor) -> Tensor:
        z = x / fn.scale
        near = z < 1
        far = log_survival(torch.where(near, 1.0, z))
        return torch.where(near, log_central(torch.where(near, z, 0.5)), log1mexp(far))

    def from_log_survival(fn: Any, log_p: Tensor) -> Tensor:
        return log_tails(fn.base_dist).from_log_survival(fn.base_dist, log_p - _LOG_2)

    def from_log_cdf(fn: Any, log_p: Tensor) -> Tensor:
        near = log_p < -_LOG_2
        far = from_log_survival(fn, log1mexp(_floor(torch.where(near, -_LOG_2, log_p))))
        return torch.where(near, fn.scale * central_quantile(log_p.clamp(max=-_LOG_2).exp()), far)

    return LogTails(log_cdf, lambda fn, x: log_survival(x / fn.scale), from_log_cdf, from_log_survival)


register_log_tails(torch.distributions.HalfNormal)(
    _half(
        lambda z: torch.erf(math.sqrt(0.5) * z).log(),
        lambda z: log_ndtr(-z) + _LOG_2,
        lambda p: math.sqrt(2) * erfinv(p),
    )
)
register_log_tails(torch.distributions.HalfCauchy)(
    _half(
        lambda z: (2 / math.pi * z.atan()).log(),
        lambda z: _cauchy_log_cdf(-z) + _LOG_2,
        lambda p: (math.pi / 2 * p).tan(),
    )
)


def _either(sign: Any, increasing: Function, decreasing: Function, fn: Any, x: Tensor) -> Tensor:
    if isinstance(sign, int):
        return (increasing if sign == 1 else decreasing)(fn, x)
    return torch.where(sign > 0, increasing(fn, x), decreasing(fn, x))


def _transformed_log_cdf(fn: TransformedDistribution, value: Tensor) -> Tensor:
    base = log_tails(fn.base_dist)
    return _either(sign_of(fn), base.log_cdf, base.log_survival, fn.base_dist, to_base(fn, value))


def _transformed_log_survival(fn: TransformedDistribution, value: Tensor) -> Tensor:
    base = log_tails(fn.base_dist)
    return _either(sign_of(fn), base.log_survival, base.log_cdf, fn.base_dist, to_base(fn, value))


def _from_base(fn: TransformedDistribution, value: Tensor) -> Tensor:
    for transform in fn.transforms:
        value = transform(value)
    return value


def _transformed_from_log_cdf(fn: TransformedDistribution, log_p: Tensor) -> Tensor:
    base = log_tails(fn.base_dist)
    there = base.from_log_cdf, base.from_log_survival
    return _from_base(fn, _either(sign_of(fn), *there, fn.base_dist, log_p))


def _transformed_from_log_survival(fn: TransformedDistribution, log_p: Tensor) -> Tensor:
    base = log_tails(fn.base_dist)
    there = base.from_log_survival, base.from_log_cdf
    return _from_base(fn, _either(sign_of(fn), *there, fn.base_dist, log_p))


_TRANSFORMED = LogTails(
    _transformed_log_cdf,
    _transformed_log_survival,
    _transformed_from_log_cdf,
    _transformed_from_log_survival,
)
register_log_tails(TransformedDistribution)(_TRANSFORMED)


def _log_tail(fn: Any, value: Tensor, upper: bool) -> Tensor:
    """In float64, from the tail that has its own precision, with the gradient of the CDF."""
    double, x = mapped(fn, wide), value.double()
    mass = tails(double, x)[upper].detach()
    cdf = double.cdf(x)
    rate = (cdf.detach() - cdf if upper else cdf - cdf.detach()) / _positive(mass)
    log_mass = torch.where(mass <= 0, -math.inf, _positive(mass).log() + rate)
    return log_mass.to(value.dtype)


def wide(x: Tensor) -> Tensor:
    """In float64, if it is a floating number."""
    return x.double() if x.is_floating_point() else x


def _positive(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny)


BY_CDF = LogTails(
    lambda fn, x: _log_tail(fn, x, False),
    lambda fn, x: _log_tail(fn, x, True),
    lambda fn, p: fn.icdf(p.exp()),
    lambda fn, p: fn.icdf(-torch.expm1(p)),
    exact=False,
)
