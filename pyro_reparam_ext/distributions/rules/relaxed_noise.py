"""The noise behind relaxed values of Bernoulli and one-hot variables.

A value that is censored, since a float lies no nearer to the end, has noise somewhere beyond, which is
drawn.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as td
from torch.nn.functional import logsigmoid

from ...noise import standard_exponential
from ...numerics.log1mexp import log1mexp
from ...numerics.relaxation import outward
from .discrete_noise import noise_law
from .noise_map import NoiseMap, register_noise_map


def logistic_noise(fn: Any, x: Tensor, inside: Tensor, side: Tensor) -> Tensor:
    """The noise of a coordinate ``x``; where it is not ``inside``, beyond ``x`` on this ``side``."""
    noise = fn.temperature * x - fn.logits
    log_tail = logsigmoid(-side * noise) - standard_exponential(noise.shape, noise)
    return torch.where(inside, noise, side * (log1mexp(log_tail) - log_tail))


def gumbel_noise(scores: Tensor, censored: Tensor) -> Tensor:
    r"""The noise of a relaxed one-hot vector; where it is ``censored``, of a component below.

    With :math:`w_k \propto e^{\alpha_k} y_k^{-T}`, the exponentials :math:`E_k = e^{-G_k}` have the
    proportions w, and those of censored components are longer by an exponential each. Their scale,
    which is lost, is a Gamma variable: as many exponentials as there are components that are not.

    Args:
        scores: :math:`\alpha - T \log y`, minus infinity where a class is impossible.
    """
    fresh = standard_exponential(scores.shape, scores)
    total = torch.where(censored, 0.0, fresh).sum(-1, keepdim=True)
    return -(scores.softmax(-1) * total + torch.where(censored, fresh, 0.0)).log()


def _logit_forward(fn: Any, noise: Tensor) -> Tensor:
    return (fn.logits + noise) / fn.temperature


def _sigmoid_forward(fn: Any, noise: Tensor) -> Tensor:
    value = _logit_forward(fn, noise)
    for transform in fn.transforms:
        value = transform(value)
    return value


def _sigmoid_inverse(fn: Any, value: Tensor) -> Tensor:
    info = torch.finfo(value.dtype)
    inside = (value > info.tiny) & (value < 1 - info.eps)
    return logistic_noise(fn, value.clamp(info.tiny, 1 - info.eps).logit(), inside, outward(value))


def _exp_forward(fn: Any, noise: Tensor) -> Tensor:
    # Unlike ours, torch's temperature broadcasts with the logits.
    return ((fn.logits + noise) / fn.temperature).log_softmax(-1)


def _exp_inverse(fn: Any, value: Tensor) -> Tensor:
    scores = fn.logits - fn.temperature * value
    return gumbel_noise(scores, torch.zeros_like(value, dtype=torch.bool))


def _softmax_inverse(fn: Any, value: Tensor) -> Tensor:
    tiny = torch.finfo(value.dtype).tiny
    return gumbel_noise(fn.logits - fn.temperature * value.clamp(min=tiny).log(), value < tiny)


LogitRelaxedBernoulli = td.relaxed_bernoulli.LogitRelaxedBernoulli
ExpRelaxedCategorical = td.relaxed_categorical.ExpRelaxedCategorical

register_noise_map(LogitRelaxedBernoulli)(
    NoiseMap(noise_law, _logit_forward, lambda fn, value: fn.temperature * value - fn.logits)
)
register_noise_map(td.RelaxedBernoulli)(NoiseMap(noise_law, _sigmoid_forward, _sigmoid_inverse))
register_noise_map(ExpRelaxedCategorical)(NoiseMap(noise_law, _exp_forward, _exp_inverse))
register_noise_map(td.RelaxedOneHotCategorical)(
    NoiseMap(noise_law, lambda fn, noise: _exp_forward(fn, noise).exp(), _softmax_inverse)
)
register_noise_map(dist.RelaxedBernoulliStraightThrough, dist.RelaxedOneHotCategoricalStraightThrough)(
    None  # their values are hard, and don't tell what they were made from
)
