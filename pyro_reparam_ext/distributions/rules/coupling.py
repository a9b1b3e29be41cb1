"""Common random numbers: the value of a site under a changed distribution.

``couple(old, value, new)`` takes a ``value`` drawn from ``old`` and returns one distributed as
``new``, made from the noise that ``value`` was made from. Where that noise is not known it is drawn
from its posterior given ``value``, so nothing has to be recorded when the value is drawn. Elements
whose distribution did not change keep their value exactly, so that their costs cancel.
"""

from __future__ import annotations

from functools import singledispatch

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from ...numerics.straight_through import straight_through
from .discrete_noise import noise_given
from .logits import exact_logits
from .pathwise import pathwise_at
from .wrappers import coordinates


def couple(old: TorchDistribution, value: Tensor, new: TorchDistribution) -> Tensor:
    """A value distributed as ``new`` from the noise of ``value``, a draw of ``old``.

    ``new`` may have more batch dims on the left; differentiable in its parameters where ``new`` has
    a pathwise sampler.
    """
    old, new = coordinates(old), coordinates(new)
    event_dim = len(new.event_shape)
    coupled = _transport(new, old, value)
    same = _unchanged(old, new)
    if same is None:
        return coupled
    if coupled.requires_grad:
        # Equal parameters may still be different functions, such as w * z at w = 0: the value is
        # kept, its gradient is that of ``new``.
        try:
            moving = pathwise_at(new, value.expand_as(coupled))
        except NotImplementedError:
            return coupled
        value = straight_through(value.detach(), moving)
    return torch.where(same.reshape(same.shape + (1,) * event_dim), value, coupled)


def _unchanged(old: TorchDistribution, new: TorchDistribution) -> Tensor | None:
    """Which batch elements have the same parameters in both; None if that can't be told."""
    before, after = parameters(old), parameters(new)
    if not before or not after:
        return None
    same: Tensor | None = None
    for (a, event_dim), (b, _) in zip(before, after, strict=True):
        equal = a == b
        for _ in range(event_dim):
            equal = equal.all(-1)
        same = equal if same is None else same & equal
    return None if same is None else same.expand(new.batch_shape)


@singledispatch
def parameters(fn: TorchDistribution) -> list[tuple[Tensor, int]] | None:
    """The parameters that determine ``fn``, with the event dims of each; None if not known."""
    attributes = vars(fn)
    if any(isinstance(v, torch.distributions.Distribution) for v in attributes.values()):
        return None
    named = [(attributes.get(k), c.event_dim) for k, c in fn.arg_constraints.items()]
    return named if all(isinstance(v, Tensor) for v, _ in named) else None


@parameters.register(torch.distributions.Bernoulli)
def _(fn: TorchDistribution) -> list[tuple[Tensor, int]]:
    return [(exact_logits(fn), 0)]


@parameters.register(torch.distributions.Categorical)
@parameters.register(torch.distributions.OneHotCategorical)
def _(fn: TorchDistribution) -> list[tuple[Tensor, int]]:
    return [(exact_logits(fn), 1)]


@parameters.register(torch.distributions.Binomial)
def _(fn: TorchDistribution) -> list[tuple[Tensor, int]]:
    return [(fn.total_count, 0), (exact_logits(fn), 0)]


@parameters.register(dist.BetaBinomial)
def _(fn: TorchDistribution) -> list[tuple[Tensor, int]]:
    return [(fn.total_count, 0), (fn.concentration1, 0), (fn.concentration0, 0)]


@parameters.register(torch.distributions.MultivariateNormal)
def _(fn: TorchDistribution) -> list[tuple[Tensor, int]]:
    return [(fn.loc, 1), (fn._unbroadcasted_scale_tril, 2)]


@parameters.register(dist.Delta)
def _(fn: TorchDistribution) -> list[tuple[Tensor, int]]:
    return [(fn.v, fn.event_dim)]


@singledispatch
def _transport(new: TorchDistribution, old: TorchDistribution, value: Tensor) -> Tensor:
    """Fallback: an independent draw. Right, only without the variance reduction."""
    if isinstance(new, TorchDistributionMixin):
        return new()
    return new.rsample() if new.has_rsample else new.sample()


@_transport.register(dist.Normal)
@_transport.register(dist.Laplace)
@_transport.register(dist.Cauchy)
@_transport.register(dist.Gumbel)
def _location_scale(new: TorchDistribution, old: TorchDistribution, value: Tensor) -> Tensor:
    noise = ((value - old.loc) / old.scale).detach()
    return new.loc + new.scale * noise


@_transport.register(dist.Uniform)
def _uniform(new: dist.Uniform, old: dist.Uniform, value: Tensor) -> Tensor:
    noise = ((value - old.low) / (old.high - old.low)).detach()
    return new.low + (new.high - new.low) * noise


@_transport.register(dist.Exponential)
def _exponential(new: dist.Exponential, old: dist.Exponential, value: Tensor) -> Tensor:
    return (value * old.rate).detach() / new.rate


@_transport.register(dist.MultivariateNormal)
def _multivariate_normal(
    new: dist.MultivariateNormal, old: dist.MultivariateNormal, value: Tensor
) -> Tensor:
    centred = (value - old.loc).unsqueeze(-1)
    noise = torch.linalg.solve_triangular(old._unbroadcasted_scale_tril, centred, upper=False)
    return new.loc + (new._unbroadcasted_scale_tril @ noise.detach()).squeeze(-1)


@_transport.register(torch.distributions.TransformedDistribution)
def _transformed(new: TorchDistribution, old: TorchDistribution, value: Tensor) -> Tensor:
    for transform in reversed(old.transforms):
        value = transform.inv(value)
    value = _transport(new.base_dist, old.base_dist, value)
    for transform in new.transforms:
        value = transform(value)
    return value


@_transport.register(torch.distributions.Independent)
def _independent(new: TorchDistribution, old: TorchDistribution, value: Tensor) -> Tensor:
    return couple(old, value, new)


@_transport.register(dist.Bernoulli)
def _bernoulli(new: dist.Bernoulli, old: dist.Bernoulli, value: Tensor) -> Tensor:
    return (exact_logits(new) + noise_given(old, value) > 0).to(value.dtype)


@_transport.register(dist.OneHotCategorical)
def _one_hot(new: dist.OneHotCategorical, old: dist.OneHotCategorical, value: Tensor) -> Tensor:
    index = (exact_logits(new) + noise_given(old, value)).argmax(-1, keepdim=True)
    shape = index.shape[:-1] + value.shape[-1:]
    return torch.zeros(shape, dtype=value.dtype, device=value.device).scatter(-1, index, 1)


@_transport.register(dist.Categorical)
def _categorical(new: dist.Categorical, old: dist.Categorical, value: Tensor) -> Tensor:
    one_hot = torch.nn.functional.one_hot(value, old.logits.shape[-1]).to(old.logits.dtype)
    return (exact_logits(new) + noise_given(old, one_hot)).argmax(-1)
