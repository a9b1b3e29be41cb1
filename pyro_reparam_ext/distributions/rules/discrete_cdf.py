"""CDFs of integer-valued distributions of torch and Pyro, which have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import distributions as td

from ...numerics.betainc import betainc
from ...numerics.incomplete_gamma import gammaincc
from ...numerics.straight_through import straight_through
from .dispatch import Rules

_RULES: Rules[Callable[[Any, Tensor], Tensor]] = Rules("cdf")
register_discrete_cdf = _RULES.register
"""A decorator: :func:`discrete_cdf` of some classes."""


def discrete_cdf(fn: Any, value: Tensor) -> Tensor:
    """P(X <= value) at integers of the support, differentiable in the parameters.

    Raises:
        NotImplementedError: there is no rule for ``fn``, and it has no CDF.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions.rules.discrete_cdf import discrete_cdf
        >>> discrete_cdf(dist.Poisson(2.0), torch.tensor([0.0, 1.0]))
        tensor([0.1353, 0.4060])
    """
    rule = _RULES.of(type(fn))
    return fn.cdf(value) if rule is None else rule(fn, value)


@register_discrete_cdf(td.Poisson)
def _poisson(fn: Any, value: Tensor) -> Tensor:
    # That arrival k + 1 is later than 1.
    moving = torch.special.gammaincc(value + 1, fn.rate)
    return straight_through(gammaincc(value + 1, fn.rate), moving)


@register_discrete_cdf(td.Binomial)
def _binomial(fn: Any, value: Tensor) -> Tensor:
    # That the k-th least of n uniforms, counted from 0, is above p. All are at most n.
    count, value, probs = torch.broadcast_tensors(fn.total_count, value, fn.probs)
    last = value >= count
    left = torch.where(last, 1.0, count - value)
    return torch.where(last, 1.0, betainc(left, value + 1, 1 - probs, probs))


@register_discrete_cdf(td.NegativeBinomial)
def _negative_binomial(fn: Any, value: Tensor) -> Tensor:
    count, value, probs = torch.broadcast_tensors(fn.total_count, value, fn.probs)
    return betainc(count, value + 1, 1 - probs, probs)


@register_discrete_cdf(td.Geometric)
def _geometric(fn: Any, value: Tensor) -> Tensor:
    return -((value + 1) * (-fn.probs).log1p()).expm1()


@register_discrete_cdf(td.Bernoulli)
def _bernoulli(fn: Any, value: Tensor) -> Tensor:
    return torch.where(value >= 1, 1.0, 1 - fn.probs)


@register_discrete_cdf(td.Categorical)
def _categorical(fn: Any, value: Tensor) -> Tensor:
    below, index = torch.broadcast_tensors(fn.probs.cumsum(-1), value.long().unsqueeze(-1))
    return below.gather(-1, index[..., :1]).squeeze(-1)
