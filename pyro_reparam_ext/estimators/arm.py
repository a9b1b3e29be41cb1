"""ARM: the noise behind a value is swapped between its classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.classes import value_of
from ..distributions.rules.discrete_noise import is_binary, noise_of
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.noise_map import noise_map
from ..distributions.rules.wrappers import coordinates, num_coordinate_dims, sum_rightmost
from ..noise import NoiseSource
from ..numerics.relaxation import within
from .base import Estimator
from .decisions import DECIDED
from .protocol import Branch, Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class _Swapped(Branch):
    """Values from swapped noise, and the noise of each class before it is swapped."""

    noise: Tensor


@dataclass(frozen=True, eq=False)
class ARM(Estimator):
    r"""The augmented score function, merged over swaps of the noise behind a value (ARM, ARSM).

    A Bernoulli value :math:`b = 1[u < p]` has the twin :math:`\tilde b = 1[1 - u < p]`. With
    :math:`\alpha` the logits, the gradient is

    .. math::
        \big(f(\tilde b) - f(b)\big)\,(u - \tfrac12)\,\nabla \alpha

    A class is :math:`z = \arg\min_k \pi_k e^{-\alpha_k}` with :math:`\pi` uniform on the simplex of
    :math:`K` classes; :math:`z^{k j}` is that with :math:`\pi_k` and :math:`\pi_j` swapped, and the
    gradient is (ARSM, which is ARM for two classes)

    .. math::
        \sum_k \sum_j \Big(f(z^{k j}) - \frac1K \sum_m f(z^{m j})\Big)
        \big(\tfrac1K - \pi_j\big)\,\nabla \alpha_k

    Serves Bernoulli sites in 2 evaluations, categorical and one-hot ones of ``K`` classes in
    ``1 + K (K - 1) / 2``, whatever the number of coordinates: the model learns from each.
    :class:`DisARM` integrates the noise out of the first formula, has less variance for that, and takes
    2 evaluations for any number of classes.

    References:
        Yin, Zhou, 2018, ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks,
        https://arxiv.org/abs/1807.11143; Yin, Yue, Zhou, 2019, ARSM: Augment-REINFORCE-Swap-Merge
        Estimator for Gradient Backpropagation Through Categorical Variables,
        https://arxiv.org/abs/1905.01413

    Example:
        >>> import pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> pre.ARM().evaluations(dist.Categorical(torch.ones(4)))
        7
    """

    unbiased = True
    paper = Paper(
        "Yin, Zhou",
        "ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks",
        2018,
        "1807.11143",
    )
    supported = DECIDED

    def evaluations(self, fn: TorchDistribution) -> int:
        classes = _num_classes(coordinates(fn))
        return 1 + classes * (classes - 1) // 2

    def contributes(self, fn: TorchDistribution) -> bool:
        return self.evaluations(fn) > 1

    @torch.no_grad()
    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        base = coordinates(fn)
        noise = noise_of(base, source)
        return Draw(_value(base, _of_classes(base, noise)), noise=noise)

    @torch.no_grad()
    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        base, count = site.base, self.evaluations(site.fn) - 1
        noise = _of_classes(base, _noise(site))
        swapped = noise[..., _swaps(noise)].movedim(-2, 0)  # shape: (swaps, *noise.shape)
        values = _value(base, swapped).to(site.value.dtype)
        weight = 1 / (1 + count)
        return (_Swapped(count, lambda a, b: values[a:b], weights=weight, noise=noise),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        (branch,) = evaluations.branches
        assert isinstance(branch, _Swapped)
        base, dims = evaluations.site.base, num_coordinate_dims(evaluations.site.fn)
        share = (-branch.noise).softmax(-1)  # pi
        classes = share.shape[-1]
        costs = evaluations.costs[_evaluation(share)]  # shape: (classes, classes, *batch)
        gain = (costs - costs.mean(0)).flatten(0, 1).movedim(0, -1)
        gain = gain.reshape(gain.shape[:-1] + (1,) * dims + (classes, classes))
        weight = (gain * (1 / classes - share).unsqueeze(-2)).sum(-1)
        return sum_rightmost(weight * within(_of_classes(base, exact_logits(base))), dims + 1)


def _num_classes(base: TorchDistribution) -> int:
    return 2 if is_binary(base) else base.logits.shape[-1]


def _of_classes(base: TorchDistribution, x: Tensor) -> Tensor:
    """Logits, or the noise that is added to them, for each class."""
    return torch.stack([torch.zeros_like(x), x], -1) if is_binary(base) else x


def _value(base: TorchDistribution, noise: Tensor) -> Tensor:
    return value_of(base, (_of_classes(base, exact_logits(base)) + noise).argmax(-1))


def _noise(site: Site) -> Tensor:
    """The noise of a value; drawn given the value, if that was not made of any."""
    if site.draw.noise is not None:
        return site.draw.noise
    known = noise_map(site.base)
    assert known is not None
    return known.inverse(site.base, site.value)


def _swaps(noise: Tensor) -> Tensor:
    """All classes with two of them swapped, shape ``(swaps, classes)``."""
    classes = torch.arange(noise.shape[-1], device=noise.device)
    first, second = (i[:, None] for i in _pairs(noise))
    return torch.where(classes == first, second, torch.where(classes == second, first, classes))


def _evaluation(noise: Tensor) -> Tensor:
    """Which evaluation has two classes swapped; the ordinary one where they are the same."""
    first, second = _pairs(noise)
    classes = torch.arange(noise.shape[-1], device=noise.device)
    number = torch.zeros_like(classes[:, None] * classes)
    swap = torch.arange(1, 1 + len(first), device=noise.device)
    return number.index_put((first, second), swap).index_put((second, first), swap)


def _pairs(noise: Tensor) -> Tensor:
    return torch.triu_indices(noise.shape[-1], noise.shape[-1], 1, device=noise.device)
