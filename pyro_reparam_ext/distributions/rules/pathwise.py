"""A given value of a distribution, moving with its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Tensor
from torch.distributions import Distribution

from ...numerics.implicit import implicit_joint, once
from .dispatch import Rules
from .noise_map import noise_map

Rule = Callable[[Any, Tensor], Tensor]
_RULES: Rules[Rule] = Rules()
register_pathwise = _RULES.register
"""A decorator: :func:`pathwise_at` for some classes, and for what derives from them."""


def pathwise_at(fn: Distribution, value: Tensor) -> Tensor:
    r"""``value`` as it is, with the gradient :math:`-\partial_\theta F_\theta(x) / f_\theta(x)`.

    What ``rsample`` would give had it drawn this value. Closed forms for location-scale families, for
    what is built from them by transforms, for normal vectors and for the distributions of this
    package; otherwise by the derivative of ``fn.cdf``, which can be differentiated once.

    Args:
        fn: a distribution, univariate where there is no rule for it.
        value: points of its support, of a shape that the batch shape broadcasts to; taken as constant.

    Raises:
        NotImplementedError: there is no rule for ``fn``, and it has no CDF.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions import pathwise_at
        >>> scale = torch.tensor(2.0, requires_grad=True)
        >>> x = pathwise_at(dist.Normal(1.0, scale), torch.tensor(4.0))  # 1.5 scales from the mean
        >>> x.backward()
        >>> print(x.item(), scale.grad.item())
        4.0 1.5
    """
    rule = _RULES.of(type(fn)) or _from_cdf
    return rule(fn, value.detach())


def has_pathwise(fn: Distribution) -> bool:
    """Whether :func:`pathwise_at` knows the gradient, by the classes alone."""
    nearest = _RULES.nearest(type(fn))
    if nearest is torch.distributions.TransformedDistribution:
        return has_pathwise(fn.base_dist)  # type: ignore[attr-defined]
    return nearest is not None or type(fn).cdf is not Distribution.cdf


def _from_cdf(fn: Distribution, value: Tensor) -> Tensor:
    if type(fn).cdf is Distribution.cdf:
        raise NotImplementedError(
            f"{type(fn).__name__} has neither a rule for its pathwise gradient nor a cdf: register a"
            " rule by register_pathwise, or give it a method cdf(value) that is differentiable in its"
            " parameters."
        )
    cdf = fn.cdf(value)
    density = fn.log_prob(value).exp().detach()
    return implicit_joint(value.expand(cdf.shape), cdf_pull_back, cdf, density)


def cdf_pull_back(gradient: Tensor, value: Tensor, cdf: Tensor, density: Tensor) -> tuple[Tensor, None]:
    return once(-gradient / density, cdf), None


@register_pathwise(torch.distributions.Independent, MaskedDistribution)
def _wrapped(fn: Any, value: Tensor) -> Tensor:
    return pathwise_at(fn.base_dist, value)


def by_method(fn: Any, value: Tensor) -> Tensor:
    """The rule of a class that says it by a method ``_at``."""
    return fn._at(value)


@register_pathwise(
    torch.distributions.Normal,
    torch.distributions.Laplace,
    torch.distributions.Cauchy,
    torch.distributions.Gumbel,
    torch.distributions.Uniform,
    torch.distributions.Exponential,
    torch.distributions.HalfNormal,
    torch.distributions.HalfCauchy,
    torch.distributions.MultivariateNormal,
    torch.distributions.LowRankMultivariateNormal,
    torch.distributions.relaxed_bernoulli.LogitRelaxedBernoulli,
    torch.distributions.relaxed_categorical.ExpRelaxedCategorical,
    dist.Logistic,
    dist.MultivariateStudentT,
)
def by_noise_map(fn: Any, value: Tensor) -> Tensor:
    """The rule of a class that has a noise map in closed form."""
    found = noise_map(fn)
    assert found is not None
    return found.forward(fn, found.inverse(fn, value).detach())


@register_pathwise(dist.AsymmetricLaplace)
def _asymmetric_laplace(fn: Any, value: Tensor) -> Tensor:
    # Of its two exponentials at their means given the value, in which it is linear.
    excess, total = (value - fn.loc).detach(), (fn.left_scale + fn.right_scale).detach()
    left, right = fn.left_scale.detach(), fn.right_scale.detach()
    below = right / total + (-excess).clamp(min=0) / left
    above = left / total + excess.clamp(min=0) / right
    return fn.loc - fn.left_scale * below + fn.right_scale * above


@register_pathwise(torch.distributions.TransformedDistribution)
def _transformed(fn: torch.distributions.TransformedDistribution, value: Tensor) -> Tensor:
    for transform in reversed(fn.transforms):
        value = transform.inv(value)
    value = pathwise_at(fn.base_dist, value.detach())
    for transform in fn.transforms:
        value = transform(value)
    return value
