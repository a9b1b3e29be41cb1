r"""The share of a distribution's draws that floating point can't hold, or whose gradient overflows.

By the lower tails of the laws that draws are made of: for :math:`t \to 0`

.. math::
    P(\mathrm{Gamma}(a) < t) \approx \frac{t^a}{\Gamma(a + 1)}, \qquad
    P(\mathrm{Beta}(a, b) < t) \approx \frac{t^a}{a\, B(a, b)}.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...numerics.log1mexp import log1mexp
from .temperatures import batch_temperature


def gamma_draws_below(concentration: Tensor, log_bound: Tensor | float) -> float:
    """The share of a standard Gamma law below a tiny number; the largest of a batch."""
    a = _double(concentration)
    return _largest((a * log_bound - (a + 1).lgamma()).exp())


def beta_draws_below(concentration1: Tensor, concentration0: Tensor, log_bound: float) -> float:
    """The share of a Beta law below a tiny number; the largest of a batch."""
    a, b = _double(concentration1), _double(concentration0)
    log_beta = a.lgamma() + b.lgamma() - (a + b).lgamma()
    return _largest((a * log_bound - a.log() - log_beta).exp())


def student_t_draws_of_nan_gradient(fn: Any) -> float:
    r"""The share of draws whose gradient in the degrees of freedom is NaN; the largest of a batch.

    Torch divides by the root of a variable :math:`w = \chi^2_\nu / \nu`, whose derivative
    :math:`w^{-3/2}` overflows where it is too small.
    """
    log_w = -2 / 3 * math.log(torch.finfo(fn.df.dtype).max)
    return gamma_draws_below(fn.df / 2, log_w + (_double(fn.df) / 2).log())


def kumaraswamy_draws_at_ends(fn: Any) -> float:
    r"""The share of draws that round to 0 or 1, where the density is NaN; the largest of a batch.

    Torch takes the root :math:`1 / a` of :math:`1 - v`, with :math:`v < t` of probability :math:`t^b`.
    """
    a, b = _double(fn.concentration1), _double(fn.concentration0)
    rounds = a.clamp(min=1.0) * torch.finfo(fn.concentration1.dtype).eps / 4
    at_one = (b * rounds.log().clamp(max=0.0)).exp()
    at_zero = -(b * log1mexp(a * log_least(fn.concentration1))).expm1()
    return _largest(at_one + at_zero)


def relaxed_one_hot_draws_with_a_zero(fn: Any) -> float:
    """The share of draws of which a component underflows to 0; the largest of a batch.

    Component ``i`` does if its perturbed logit lies below the largest one by so much that the quotient
    by the temperature is below the least float. That difference has a logistic law.
    """
    log_probs = _double(fn.logits).log_softmax(-1)
    distance = -batch_temperature(fn).detach().double().unsqueeze(-1) * log_least(fn.logits)
    others = log1mexp(log_probs.clamp(max=-1e-15))
    return _largest((others - log_probs - distance).sigmoid().sum(-1))


def relaxed_bernoulli_draws_at_ends(fn: Any) -> float:
    """The share of draws that are cut to the floats between 0 and 1; the largest of a batch."""
    limits = torch.finfo(fn.logits.dtype)
    temperature, logits = _double(fn.temperature), _double(fn.logits)
    at_one = (logits + temperature * math.log(limits.eps)).sigmoid()
    at_zero = (temperature * math.log(limits.tiny) - logits).sigmoid()
    return _largest(at_one + at_zero)


def log_tiny(x: Tensor) -> float:
    """The logarithm of the smallest normal number of a dtype, below which torch raises a draw to it."""
    return math.log(torch.finfo(x.dtype).tiny)


def log_least(x: Tensor) -> float:
    """The logarithm of the smallest positive number of a dtype."""
    return log_tiny(x) + math.log(torch.finfo(x.dtype).eps)


def _double(x: Tensor | float) -> Tensor:
    return torch.as_tensor(x).detach().double()


def _largest(share: Tensor) -> float:
    return min(float(share.max()), 1.0)
