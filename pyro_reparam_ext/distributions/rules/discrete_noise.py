"""The continuous noise behind a discrete value.

A Bernoulli value is ``z > 0`` with ``z = logits + Logistic``, a categorical one the argmax of
``z = logits + Gumbel``. These functions draw ``z`` given the discrete value (Maddison et al.,
arXiv 1611.00712; the conditional laws are worked out in Tucker et al., arXiv 1703.07370), in log
space and differentiably in the logits with the underlying uniforms held fixed. A class whose logit is
minus infinity stays impossible.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import softplus

from ...noise import NoiseSource, gumbel_like, gumbel_of, logistic_like
from ...numerics.relaxation import hard_bernoulli, hard_one_hot
from .logits import exact_logits
from .noise_map import NoiseMap, register_noise_map
from .wrappers import coordinates, overrides_call


def is_binary(base: TorchDistribution) -> bool:
    """Whether a coordinate is a Bernoulli variable, hard or relaxed; else it is categorical."""
    return not (base.event_shape or isinstance(base, torch.distributions.Categorical))


def noise_of(base: TorchDistribution, source: NoiseSource) -> Tensor:
    """The noise of a new value of ``base``, in the shape of its logits."""
    uniform = source.uniform(base.logits.shape, base.logits)
    return uniform.logit() if is_binary(base) else gumbel_of(uniform)


def noise_law(base: TorchDistribution) -> TorchDistribution:
    """The law of the noise: standard logistic, or Gumbel for each class."""
    zeros = torch.zeros_like(base.logits)
    if is_binary(base):
        return dist.Logistic(zeros, torch.ones_like(zeros))
    return dist.Gumbel(zeros, torch.ones_like(zeros)).to_event(1)


def noisy_logits_given(base: TorchDistribution, value: Tensor) -> Tensor:
    """``z = logits + noise`` given the value (0 or 1, or one-hot) that it leads to.

    Differentiable in the logits. Where these are infinite, so is ``z``.
    """
    logits = exact_logits(base)
    return _given(base, logits, value, _standard(base, logits + value))


@torch.no_grad()
def noise_given(base: TorchDistribution, value: Tensor) -> Tensor:
    """The noise behind a value.

    Where a logit is infinite the value says nothing about it: any noise would have led there.
    """
    logits = exact_logits(base)
    fresh = _standard(base, logits + value)
    noise = _given(base, logits, value, fresh) - logits
    return torch.where(logits.isinf(), fresh, noise)


def _standard(base: TorchDistribution, like: Tensor) -> Tensor:
    return logistic_like(like.detach()) if is_binary(base) else gumbel_like(like.detach())


def _given(base: TorchDistribution, logits: Tensor, value: Tensor, noise: Tensor) -> Tensor:
    if is_binary(base):
        sign = 2 * value - 1
        return sign * softplus(noise + softplus(sign * logits))
    top = (value * noise).sum(-1, keepdim=True)
    return torch.where(value > 0.5, top, -torch.logaddexp(-top, -(logits + noise)))


@torch.no_grad()
def hard_sample(fn: TorchDistribution, source: NoiseSource) -> Tensor:
    """A sample without a gradient, which ``vmap`` can batch.

    For Bernoulli several times as fast as ``torch.bernoulli``.
    """
    base = coordinates(fn)
    if isinstance(base, torch.distributions.Bernoulli):
        probs = base.probs
        return (source.uniform(probs.shape, probs) < probs).to(probs.dtype)
    if isinstance(base, torch.distributions.Categorical):
        return _index(base, noise_of(base, source))
    if isinstance(base, torch.distributions.OneHotCategorical):
        return _harden(base, noise_of(base, source))
    sample = source.sample(fn) if overrides_call(fn) else fn.sample()
    # As a new tensor: a flow scores the one that it has just made by what it kept of making it, without
    # a gradient.
    return sample.detach()


def _harden(base: TorchDistribution, noise: Tensor) -> Tensor:
    z = exact_logits(base) + noise
    return hard_bernoulli(z) if is_binary(base) else hard_one_hot(z)


def _index(base: TorchDistribution, noise: Tensor) -> Tensor:
    return (exact_logits(base) + noise).argmax(-1)


def _index_noise(base: TorchDistribution, value: Tensor) -> Tensor:
    logits = base.logits
    classes = torch.arange(logits.shape[-1], device=logits.device)  # one_hot looks at values
    return noise_given(base, (value.unsqueeze(-1) == classes).to(logits.dtype))


register_noise_map(torch.distributions.Bernoulli, torch.distributions.OneHotCategorical)(
    NoiseMap(noise_law, _harden, noise_given)
)
register_noise_map(torch.distributions.Categorical)(NoiseMap(noise_law, _index, _index_noise))
