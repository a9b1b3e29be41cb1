"""Densities of the kinds of sites in plain torch, and the rule that sums over what is continuous."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .grammar import FACTOR, KINDS, NODES

DTYPE = torch.float64


@dataclass(frozen=True)
class Rule:
    """The nodes of the trapezoidal rule."""

    normal: Tensor
    """Of a standard normal variable."""
    gamma: Tensor
    """Of the logarithm of a gamma variable of rate 1."""

    def values(self, kind: str) -> int:
        """How many values a coordinate takes."""
        if not KINDS[kind].continuous:
            return KINDS[kind].values
        return len(self.gamma) if kind == "gamma" else len(self.normal)

    @cached_property
    def normal_weights(self) -> Tensor:
        return (-0.5 * self.normal**2).softmax(0)

    @cached_property
    def log_gamma_step(self) -> float:
        return math.log(self.gamma[1] - self.gamma[0])


def _nodes(low: float, step: float, count: int) -> Tensor:
    return low + step * torch.arange(count, dtype=DTYPE)


_NORMAL_STEP, _GAMMA_STEP = 12 / (NODES - 1), 12 / (KINDS["gamma"].values - 1)
RULES = tuple(
    Rule(
        _nodes(-7.8 + share * _NORMAL_STEP, _NORMAL_STEP, NODES + 6),
        _nodes(-13.5 + share * _GAMMA_STEP, _GAMMA_STEP, KINDS["gamma"].values + 17),
    )
    for share in (0.0, 0.25, 0.5, 0.75)
)
"""Rules of the step of :func:`size`, each moved by a quarter of it; cut off where no tail is left.

The mean of all is the rule of a quarter of the step, and that of every other one the rule of half of
it. The two of half a step differ by more than the mean is off: by twice the leading term of the error
of either, where the program is smooth, which cancels in the mean; and by a quarter of a step at a
jump, of which the mean may miss an eighth.
"""


def T(x: object) -> Tensor:
    return torch.tensor(x, dtype=DTYPE)


def value_at(
    kind: str, eta: Tensor, s: Tensor, index: Tensor, rule: Rule
) -> tuple[Tensor, Tensor | None]:
    """A value, and the logarithm of its weight where that is not its probability."""
    if kind == "gamma":
        # the nodes stay where they are while the density changes
        value = rule.gamma[index].exp() / (0.3 * eta).exp().detach()
        return value, log_prob(kind, eta, s, value) + value.log() + rule.log_gamma_step
    if KINDS[kind].continuous:
        noise, weight = rule.normal[index], rule.normal_weights[index].log()
        if kind == "multivariate_normal":
            return eta + noise @ _factor(s).mT, weight
        loc, scale = _location_scale(kind, eta, s)
        value = loc + scale * noise
        return (value.exp() if kind == "log_normal" else value), weight
    if kind.startswith("one_hot"):
        return torch.eye(3, dtype=DTYPE)[index], None
    return (index if kind.startswith("categorical") else index.to(DTYPE)), None


def _location_scale(kind: str, eta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    return (0.3 * eta, (0.5 * s).exp()) if kind == "log_normal" else (eta, s.exp())


def _factor(s: Tensor) -> Tensor:
    return s.exp() * T(FACTOR[0]) + T(FACTOR[1])


def normal(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


def log_prob(kind: str, eta: Tensor, s: Tensor, value: Tensor) -> Tensor:
    """The log density of an element, events summed."""
    if kind in ("bernoulli", "bernoulli-event"):
        log_p = value * logsigmoid(eta) + (1 - value) * logsigmoid(-eta)
        return log_p.sum(-1) if kind == "bernoulli-event" else log_p
    if kind == "binomial":
        choices = torch.where(value == 1, math.log(2.0), 0.0)
        return value * logsigmoid(eta) + (2 - value) * logsigmoid(-eta) + choices
    if kind == "normal":
        return normal(value, *_location_scale(kind, eta, s))
    if kind == "normal-event":
        return normal(value, *_location_scale(kind, eta, s)).sum(-1)
    if kind == "multivariate_normal":
        noise = (value - eta) @ _factor(s).inverse().mT
        log_p = -0.5 * noise**2 - 0.5 * math.log(2 * math.pi)
        return log_p.sum(-1) - _factor(s).diagonal().log().sum()
    if kind == "log_normal":
        return normal(value.log(), *_location_scale(kind, eta, s)) - value.log()
    if kind == "gamma":
        a, rate = 3 * (0.3 * s).exp(), (0.3 * eta).exp()
        return a * rate.log() - torch.lgamma(a) + (a - 1) * value.log() - rate * value
    one_hot = torch.eye(3, dtype=DTYPE)[value] if kind.startswith("categorical") else value
    log_p = (one_hot * eta.log_softmax(-1)).sum(-1)
    return log_p.sum(-1) if kind.endswith("event") else log_p
