"""The continuous noise behind a discrete value.

A Bernoulli value is ``z > 0`` with ``z = logits + Logistic``, a categorical one the argmax of
``z = logits + Gumbel``. These functions draw ``z`` given the discrete value (Maddison et al.,
arXiv 1611.00712; the conditional laws are worked out in Tucker et al., arXiv 1703.07370), in log
space and differentiably in the logits with the underlying uniforms held fixed.
"""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import softplus

from ..noise import gumbel_like, logistic_like
from .unwrap import coordinates, overrides_call


def logistic_noise(logits: Tensor, value: Tensor) -> Tensor:
    """``z = logits + Logistic`` given that ``1[z > 0]`` is ``value`` (0 or 1)."""
    sign = 2 * value - 1
    noise = logistic_like((logits + value).detach())
    return sign * softplus(noise + softplus(sign * logits))


def categorical_noise(logits: Tensor, value: Tensor) -> Tensor:
    """``z = logits + Gumbel`` given that its argmax is the one-hot ``value``; logits normalised."""
    gumbel = gumbel_like((logits + value).detach())
    top = (value * gumbel).sum(-1, keepdim=True)
    return torch.where(value > 0.5, top, -torch.logaddexp(-top, -(logits + gumbel)))


@torch.no_grad()
def hard_sample(fn: TorchDistribution) -> Tensor:
    """A sample without a gradient, which ``vmap`` can batch.

    For Bernoulli several times as fast as ``torch.bernoulli``.
    """
    base = coordinates(fn)
    if isinstance(base, torch.distributions.Bernoulli):
        probs = base.probs
        return (torch.rand_like(probs) < probs).to(probs.dtype)
    if isinstance(base, torch.distributions.Categorical):
        return (base.logits + gumbel_like(base.logits)).argmax(-1)
    if isinstance(base, torch.distributions.OneHotCategorical):
        index = (base.logits + gumbel_like(base.logits)).argmax(-1, keepdim=True)
        return torch.zeros_like(base.logits).scatter(-1, index, 1)
    return fn() if overrides_call(fn) else fn.sample()
