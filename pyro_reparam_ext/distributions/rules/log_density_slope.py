"""The slope of a log density in its argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from .dispatch import defines

Rule = Callable[[Any, Tensor], Tensor]


def log_density_slope(fn: Distribution, value: Tensor) -> Tensor:
    """d log f(x) / dx at ``value``, as a constant; ``fn`` univariate."""
    rule = _RULES.get(defines(type(fn), "log_prob"))
    with torch.no_grad():
        if rule is not None:
            return rule(fn, value)
        return torch.func.grad(lambda x: fn.log_prob(x).sum())(value)


def _normal(fn: torch.distributions.Normal, value: Tensor) -> Tensor:
    return (fn.loc - value) / fn.scale.square()


def _gamma(fn: torch.distributions.Gamma, value: Tensor) -> Tensor:
    return (fn.concentration - 1) / value - fn.rate


_RULES: dict[type, Rule] = {
    torch.distributions.Normal: _normal,
    torch.distributions.Gamma: _gamma,
}
