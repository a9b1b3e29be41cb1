"""Relaxed values of Bernoulli and one-hot variables, worked out in log space.

Everything here acts on the distribution of a site's coordinates. A relaxed value ``y`` comes with its
unconstrained coordinate ``x``: ``y = sigmoid(x)`` for Bernoulli, ``y = softmax(x)`` for one-hot. Where
the guide makes a class impossible, ``x`` is so far out that ``y`` is exactly 0, or 1.
"""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import logsigmoid

from ...errors import EstimatorError
from ...numerics.relaxation import (
    bernoulli_linear,
    far,
    hard_bernoulli,
    hard_one_hot,
    one_hot_linear,
    within,
)
from ...numerics.sigmoid import sigmoid
from .discrete_noise import is_binary
from .logits import exact_logits

RELAXABLE = (torch.distributions.Bernoulli, torch.distributions.OneHotCategorical)


def noisy_logits(base: TorchDistribution, noise: Tensor) -> Tensor:
    """``z = logits + noise``, whose sign (Bernoulli) or argmax (one-hot) is a draw of ``base``."""
    return exact_logits(base) + noise


def coordinate(base: TorchDistribution, z: Tensor, temperature: Tensor | float) -> Tensor:
    """``z / temperature``; far out where ``z`` is infinite, so that the temperature has a gradient."""
    x = within(z) / _per_coordinate(base, temperature)
    if x.shape != z.shape:
        raise EstimatorError("the temperature does not broadcast to the site's shape.")
    return x


def _per_coordinate(base: TorchDistribution, temperature: Tensor | float) -> Tensor | float:
    """The temperature, which has the batch dims of a site, beside logits."""
    if not isinstance(temperature, Tensor) or not temperature.dim():
        return temperature
    if temperature.numel() == 1:
        return temperature.reshape(())
    return temperature if is_binary(base) else temperature.unsqueeze(-1)


def to_value(base: TorchDistribution, x: Tensor) -> Tensor:
    """The relaxed value at coordinate ``x``."""
    return sigmoid(x) if is_binary(base) else x.softmax(-1)


def harden(base: TorchDistribution, z: Tensor) -> Tensor:
    """The discrete value that ``z`` leads to."""
    return hard_bernoulli(z) if is_binary(base) else hard_one_hot(z)


def probabilities(base: TorchDistribution) -> Tensor:
    """The mean of ``base`` in the shape of its values."""
    logits = exact_logits(base)
    return sigmoid(logits) if is_binary(base) else logits.softmax(-1)


def linear_log_prob(base: TorchDistribution, value: Tensor) -> Tensor:
    """The discrete log probability, extended linearly to relaxed values.

    It equals ``log_prob`` at the vertices. ``OneHotCategorical.log_prob`` itself takes an argmax and
    loses the gradient of a relaxed value in silence.
    """
    return _linear(base, exact_logits(base), value)


def held_log_prob(base: TorchDistribution, value: Tensor) -> Tensor:
    """The same, with a gradient in the value alone.

    In the guide the gradient in the parameters at a fixed value is the score. Its mean is zero at hard
    values and small at relaxed ones, its variance large: it is left out.
    """
    return _linear(base, exact_logits(base).detach(), value)


def _linear(base: TorchDistribution, logits: Tensor, value: Tensor) -> Tensor:
    return bernoulli_linear(logits, value) if is_binary(base) else one_hot_linear(logits, value)


def relaxed_log_prob(base: TorchDistribution, x: Tensor, temperature: Tensor | float) -> Tensor:
    """Log density of the relaxed value, with respect to its unconstrained coordinate.

    The density of the coordinate and that of the value differ by a Jacobian that does not depend on
    the parameters; the same for guide and model, it cancels in the ELBO.

    A value with impossible classes lies on a face of the simplex. Its density there is that of the
    relaxed variable of the other classes, times their probability: as the temperature falls, the
    difference of guide and model tends to that of the discrete log probabilities.
    """
    logits = exact_logits(base)
    temperature = _per_coordinate(base, temperature)
    log_t = temperature.log() if isinstance(temperature, Tensor) else math.log(temperature)
    end = far(x.dtype) / 2
    if is_binary(base):
        outer = temperature * x
        on_face = outer.abs() > end
        difference = torch.where(on_face, 0.0, logits - outer)
        density = log_t + logsigmoid(difference) + logsigmoid(-difference)
        return torch.where(on_face, logsigmoid(logits * x.sign()), density)
    outer = temperature * x.log_softmax(-1)
    possible = outer > -end
    scores, classes = logits - outer, possible.sum(-1).to(x.dtype)
    total = torch.where(possible, scores, 0.0).sum(-1)
    if isinstance(log_t, Tensor) and log_t.dim():
        log_t = log_t.squeeze(-1)
    norm = torch.where(possible, scores, -math.inf).logsumexp(-1)
    face = torch.where(possible, logits, -math.inf).logsumexp(-1)
    return classes.lgamma() + (classes - 1) * log_t + total - classes * norm + face
