"""Relaxed values of Bernoulli and one-hot sites, worked out in log space.

Everything here acts on the distribution of a site's coordinates. A relaxed value ``y`` comes with its
unconstrained coordinate ``x``: ``y = sigmoid(x)`` for Bernoulli, ``y = softmax(x)`` for one-hot.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..distributions.relaxation import bernoulli_linear, hard_bernoulli, hard_one_hot, one_hot_linear
from ..evaluation.noise import categorical_noise, logistic_noise
from ..evaluation.unwrap import log_prob_by
from ..noise import gumbel_like, logistic_like
from .base import Draw

RELAXABLE = (torch.distributions.Bernoulli, torch.distributions.OneHotCategorical)
INTEGER_REMEDY = (
    "An integer Categorical has no values between its classes: use OneHotCategorical in guide and "
    "model."
)


class LinearlyScored:
    """For estimators of a differentiable value that the discrete log probability scores, extended.

    A mixin, left of ``Estimator``. In the guide the density is held fixed in its parameters.
    """

    supported: ClassVar[tuple[type, ...]] = RELAXABLE
    differentiable: ClassVar[bool] = True

    def remedy(self, fn: TorchDistribution) -> str:
        return INTEGER_REMEDY

    def log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: linear_log_prob(base, draw.value), fn)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: held_log_prob(base, draw.value), fn)


def is_binary(base: TorchDistribution) -> bool:
    return isinstance(base, torch.distributions.Bernoulli)


def noisy_logits(base: TorchDistribution) -> Tensor:
    """``z = logits + noise``, whose sign (Bernoulli) or argmax (one-hot) is a draw of ``base``."""
    logits = base.logits
    return logits + (logistic_like(logits) if is_binary(base) else gumbel_like(logits))


def noisy_logits_given(base: TorchDistribution, value: Tensor) -> Tensor:
    """``z`` given the discrete value it leads to; differentiable in the logits."""
    noise = logistic_noise if is_binary(base) else categorical_noise
    return noise(base.logits, value)


def to_value(base: TorchDistribution, x: Tensor) -> Tensor:
    """The relaxed value at coordinate ``x``."""
    return x.sigmoid() if is_binary(base) else x.softmax(-1)


def harden(base: TorchDistribution, z: Tensor) -> Tensor:
    """The discrete value that ``z`` leads to."""
    return hard_bernoulli(z) if is_binary(base) else hard_one_hot(z)


def probabilities(base: TorchDistribution) -> Tensor:
    """The mean of ``base`` in the shape of its values."""
    return base.logits.sigmoid() if is_binary(base) else base.logits.softmax(-1)


def linear_log_prob(base: TorchDistribution, value: Tensor) -> Tensor:
    """The discrete log probability, extended linearly to relaxed values.

    It equals ``log_prob`` at the vertices. ``OneHotCategorical.log_prob`` itself takes an argmax and
    loses the gradient of a relaxed value in silence.
    """
    return _linear(base, base.logits, value)


def held_log_prob(base: TorchDistribution, value: Tensor) -> Tensor:
    """The same, with a gradient in the value alone.

    In the guide the gradient in the parameters at a fixed value is the score. Its mean is zero at hard
    values and small at relaxed ones, its variance large: it is left out.
    """
    return _linear(base, base.logits.detach(), value)


def _linear(base: TorchDistribution, logits: Tensor, value: Tensor) -> Tensor:
    return bernoulli_linear(logits, value) if is_binary(base) else one_hot_linear(logits, value)


def relaxed_log_prob(base: TorchDistribution, x: Tensor, temperature: Tensor | float) -> Tensor:
    """Log density of the relaxed value, with respect to its unconstrained coordinate.

    The density of the coordinate and that of the value differ by a Jacobian that does not depend on
    the parameters; the same for guide and model, it cancels in the ELBO.
    """
    log_t = temperature.log() if isinstance(temperature, Tensor) else math.log(temperature)
    if is_binary(base):
        difference = base.logits - temperature * x
        return log_t + logsigmoid(difference) + logsigmoid(-difference)
    classes = x.shape[-1]
    scores = base.logits - temperature * x.log_softmax(-1)
    constant = math.lgamma(classes) + (classes - 1) * log_t
    return constant + scores.sum(-1) - classes * scores.logsumexp(-1)
