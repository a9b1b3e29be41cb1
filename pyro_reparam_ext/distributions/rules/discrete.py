"""Log probabilities of discrete distributions, also where a probability is exactly 0 or 1.

By torch, a value whose probability is given as 0 keeps a log probability of about -16 in float32, and
a Bernoulli variable with an infinite logit has the log probability NaN. Here what is impossible has
minus infinity, and adds nothing to a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Bernoulli, Binomial, Categorical, OneHotCategorical
from torch.nn.functional import logsigmoid

from ...numerics.relaxation import bernoulli_linear, floating
from .logits import exact_logits
from .wrappers import innermost, log_prob_by


def log_prob(fn: TorchDistribution, value: Tensor, *, hard: bool = True) -> Tensor:
    """``fn.log_prob(value)``, exact where a probability is 0 or 1.

    ``hard``: whether values are known to be of the support. Else a Bernoulli distribution scores them
    linearly, as torch's does.
    """
    base = innermost(fn)
    score = _SCORES.get(type(base).log_prob)
    if score is None:
        return fn.log_prob(value)
    if not hard and isinstance(base, Bernoulli):
        score = _bernoulli_linear
    return log_prob_by(lambda base: score(base, value), fn)


def support_log_probs(base: TorchDistribution, support: Tensor, value: Tensor) -> Tensor:
    """The log probability of each value of a support, shape ``(len(support), *batch)``.

    Args:
        base: a distribution of single coordinates.
        support: its values on the leftmost dim.
        value: a value of it, whose shape it is.
    """
    log_probs = torch.stack([log_prob(base, one.expand(value.shape)) for one in support])
    shape = value.shape[: value.dim() - len(base.event_shape)]
    return log_probs.expand((len(support), *shape))


def _bernoulli(base: Any, value: Tensor) -> Tensor:
    if base._validate_args:
        base._validate_sample(value)
    logits = exact_logits(base)
    return logsigmoid((2 * floating(value, logits) - 1) * logits)


def _bernoulli_linear(base: Any, value: Tensor) -> Tensor:
    if base._validate_args:
        base._validate_sample(value)
    return bernoulli_linear(exact_logits(base), value)


def _categorical(base: Any, value: Tensor) -> Tensor:
    scored, probs = base.log_prob(value), vars(base).get("probs")
    if probs is None:
        return scored
    probs, index = torch.broadcast_tensors(probs, value.long().unsqueeze(-1))
    return _impossible(probs.gather(-1, index[..., :1]).squeeze(-1) == 0, scored)


def _one_hot(base: Any, value: Tensor) -> Tensor:
    scored, probs = base.log_prob(value), vars(base._categorical).get("probs")
    return scored if probs is None else _impossible((value * probs).sum(-1) == 0, scored)


def _binomial(base: Any, value: Tensor) -> Tensor:
    if base._validate_args:
        base._validate_sample(value)
    logits, failures = exact_logits(base), base.total_count - value
    finite = type(base)(base.total_count, logits=torch.zeros_like(logits), validate_args=False)
    choices = finite.log_prob(value) + base.total_count * math.log(2)
    return choices + _times(value, logits) + _times(failures, -logits)


def _times(count: Tensor, logits: Tensor) -> Tensor:
    """So many times the log probability, none of it where the count is 0."""
    return torch.where(count == 0, 0.0, count * logsigmoid(logits))


def _impossible(where: Tensor, scored: Tensor) -> Tensor:
    return torch.where(where, -math.inf, scored)


_SCORES: dict[Any, Callable[[Any, Tensor], Tensor]] = {
    Bernoulli.log_prob: _bernoulli,
    Categorical.log_prob: _categorical,
    dist.Categorical.log_prob: _categorical,
    OneHotCategorical.log_prob: _one_hot,
    Binomial.log_prob: _binomial,
    dist.Binomial.log_prob: _binomial,
}
"""By the method, so that a subclass with a log probability of its own keeps it."""
