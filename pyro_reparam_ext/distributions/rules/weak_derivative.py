r"""Weak derivatives: that of an expectation in a parameter, as a difference of two expectations.

.. math::
    \nabla_\theta E_{p_\theta}[f(x)] = c_\theta \big(E_{p^+}[f(x)] - E_{p^-}[f(x)]\big)

Values of both laws are made from the value that was drawn, as near to each other as they can be, and
where one of the two is the law itself, from the value alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as td
from torch.nn.functional import logsigmoid

from ...noise import standard_exponential, standard_uniform
from .discrete import support_log_probs
from .dispatch import Rules
from .logits import parameter_of
from .wrappers import coordinate_support


class WeakDerivative(NamedTuple):
    """The derivative in one parameter; all of the shape of the value, or of one that broadcasts."""

    parameter: Tensor
    """It requires a gradient."""
    constant: Tensor | float
    plus: Tensor | None
    """A value of the law that is added; None: the value that was drawn."""
    minus: Tensor | None = None


Rule = Callable[[Any, Tensor], list[WeakDerivative]]
"""At a distribution, and a value that was drawn from it."""


class WeakDerivatives(NamedTuple):
    """How a class has them: so many values besides the one drawn, and none in some parameters."""

    at: Rule
    values: Callable[[Any], int]
    without: tuple[str, ...] = ()


_RULES: Rules[WeakDerivatives] = Rules("sample", "rsample", "log_prob")


def weak_derivatives(cls: type) -> WeakDerivatives | None:
    """The rule of a class of univariate distributions, if there is one."""
    return _RULES.of(cls)


def classes() -> tuple[type, ...]:
    """Those that have a rule."""
    return tuple(_RULES.rules)


def same_weak_derivatives(cls: type, other: type) -> None:
    """A class of the same law as another one that has a rule."""
    _RULES.register(cls)(_RULES.rules[other])


def _of(
    *classes: type, values: int | Callable[[Any], int], without: tuple[str, ...] = ()
) -> Callable[[Rule], Rule]:
    count = values if callable(values) else lambda fn: values

    def register(at: Rule) -> Rule:
        _RULES.register(*classes)(WeakDerivatives(at, count, without))
        return at

    return register


def _of_odds(fn: Any, constant: Tensor | float) -> tuple[Tensor, Tensor]:
    """The parameter of a law of trials, and the constant that belongs to it.

    Args:
        fn: the law, with ``probs`` or ``logits``.
        constant: that of ``probs``, times ``probs * (1 - probs)``.
    """
    ((name, parameter),) = parameter_of(fn).items()
    if name == "logits":
        return parameter, torch.as_tensor(constant)
    probs = parameter.detach()
    return parameter, constant / (probs * (1 - probs))


def _log_probs(fn: Any) -> tuple[Tensor, Tensor]:
    """The logarithms of ``probs`` and of ``1 - probs``."""
    ((name, parameter),) = parameter_of(fn).items()
    parameter = parameter.detach()
    if name == "logits":
        return logsigmoid(parameter), logsigmoid(-parameter)
    return parameter.log(), torch.log1p(-parameter)


def _failures(log_failure: Tensor, shape: torch.Size) -> Tensor:
    """The number of failures before the first success: a geometric variable."""
    return (standard_uniform(shape, log_failure).log() / log_failure).floor()


@_of(td.Bernoulli, values=1)
def _bernoulli(fn: Any, x: Tensor) -> list[WeakDerivative]:
    ((name, parameter),) = parameter_of(fn).items()
    sign = 1 - 2 * x
    if name == "logits":
        logits = parameter.detach()
        sign = sign * logits.sigmoid() * (-logits).sigmoid()
    return [WeakDerivative(parameter, sign, 1 - x)]


@_of(td.Categorical, dist.Categorical, values=lambda fn: fn.logits.shape[-1] - 1)
def _categorical(fn: Any, x: Tensor) -> list[WeakDerivative]:
    support = coordinate_support(fn)
    log_probs = support_log_probs(fn, support, x)
    found = []
    for shift in range(1, len(support)):
        place = ((x + shift) % len(support))[None]
        log_prob = log_probs.gather(0, place)[0]
        # The program never sees an impossible value: the one that was drawn stands for it.
        plus = torch.where(log_prob > -math.inf, place[0], x)
        found.append(WeakDerivative(log_prob.exp(), 1.0, plus))
    return found


@_of(td.Poisson, dist.Poisson, values=1)
def _poisson(fn: Any, x: Tensor) -> list[WeakDerivative]:
    return [WeakDerivative(fn.rate, 1.0, x + 1)]


@_of(td.Binomial, dist.Binomial, values=1)
def _binomial(fn: Any, x: Tensor) -> list[WeakDerivative]:
    """One trial is made to succeed, and to fail: it has done one of the two in the value drawn."""
    total = fn.total_count
    has_failed = standard_uniform(x.shape, x) * total < total - x
    step = torch.where(has_failed, 1, -1) * (total > 0)
    ((name, parameter),) = parameter_of(fn).items()
    constant = step * total
    if name == "logits":
        constant = constant * (parameter.sigmoid() * (-parameter).sigmoid()).detach()
    return [WeakDerivative(parameter, constant, x + step)]


@_of(td.Geometric, dist.Geometric, values=2)
def _geometric(fn: Any, x: Tensor) -> list[WeakDerivative]:
    """One failure more or less than two geometric variables, of which the value is one."""
    log_success, log_failure = _log_probs(fn)
    base = x + _failures(log_failure, x.shape)
    parameter, constant = _of_odds(fn, -(log_failure - log_success).exp())
    return [WeakDerivative(parameter, constant, base + 1, base)]


@_of(td.NegativeBinomial, values=2, without=("total_count",))
def _negative_binomial(fn: Any, x: Tensor) -> list[WeakDerivative]:
    """As of the geometric law, which counts to a first failure instead."""
    log_success, log_failure = _log_probs(fn)  # of a trial that is counted, and of one that ends
    base = x + _failures(log_success, x.shape)
    count = torch.as_tensor(fn.total_count).detach()
    parameter, constant = _of_odds(fn, count * (log_success - log_failure).exp())
    return [WeakDerivative(parameter, constant, base + 1, base)]


@_of(td.Normal, values=3)
def _normal(fn: Any, x: Tensor) -> list[WeakDerivative]:
    """A Rayleigh variable to both sides; and the value itself, moved out to a two-sided Maxwell one."""
    loc, scale = fn.loc.detach(), fn.scale.detach()
    noise, more = (x - loc) / scale, 2 * standard_exponential(x.shape, x)
    apart = scale * more.sqrt()
    further = loc + scale * torch.where(noise < 0, -1, 1) * (noise.square() + more).sqrt()
    constant = 1 / (scale * math.sqrt(2 * math.pi))
    return [
        WeakDerivative(fn.loc, constant, loc + apart, loc - apart),
        WeakDerivative(fn.scale, 1 / scale, further),
    ]


@_of(td.Exponential, values=1)
def _exponential(fn: Any, x: Tensor) -> list[WeakDerivative]:
    rate = fn.rate.detach()
    return [WeakDerivative(fn.rate, -1 / rate, x + standard_exponential(x.shape, x) / rate)]


@_of(td.Gamma, values=1, without=("concentration",))
def _gamma(fn: Any, x: Tensor) -> list[WeakDerivative]:
    shape, rate = fn.concentration.detach(), fn.rate.detach()
    return [WeakDerivative(fn.rate, -shape / rate, x + standard_exponential(x.shape, x) / rate)]


@_of(td.Weibull, values=1, without=("concentration",))
def _weibull(fn: Any, x: Tensor) -> list[WeakDerivative]:
    """A power of an exponential variable, whose scale that of the value is."""
    scale, power = fn.scale.detach(), fn.concentration.detach()
    standard = (x / scale) ** power + standard_exponential(x.shape, x)
    return [WeakDerivative(fn.scale, power / scale, scale * standard ** (1 / power))]


@_of(td.Uniform, dist.Uniform, values=2)
def _uniform(fn: Any, x: Tensor) -> list[WeakDerivative]:
    """The value at either end, as against anywhere."""
    low, high = fn.low.detach(), fn.high.detach()
    density = 1 / (high - low)
    last = torch.nextafter(high, low)  # the upper end is not of the support
    return [
        WeakDerivative(fn.low, -density, low.expand(x.shape)),
        WeakDerivative(fn.high, density, last.expand(x.shape)),
    ]
