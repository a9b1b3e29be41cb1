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
    dist.Logistic,
)
def _location_scale(fn: Any, value: Tensor) -> Tensor:
    return fn.loc + fn.scale * ((value - fn.loc) / fn.scale).detach()


@register_pathwise(torch.distributions.MultivariateNormal)
def _multivariate_normal(fn: torch.distributions.MultivariateNormal, value: Tensor) -> Tensor:
    tril = fn._unbroadcasted_scale_tril
    centred = (value - fn.loc).unsqueeze(-1)
    noise = torch.linalg.solve_triangular(tril, centred, upper=False).detach()
    return fn.loc + (tril @ noise).squeeze(-1)


@register_pathwise(torch.distributions.Uniform)
def _uniform(fn: torch.distributions.Uniform, value: Tensor) -> Tensor:
    return fn.low + (fn.high - fn.low) * ((value - fn.low) / (fn.high - fn.low)).detach()


@register_pathwise(torch.distributions.Exponential)
def _exponential(fn: torch.distributions.Exponential, value: Tensor) -> Tensor:
    return (value * fn.rate).detach() / fn.rate


@register_pathwise(torch.distributions.TransformedDistribution)
def _transformed(fn: torch.distributions.TransformedDistribution, value: Tensor) -> Tensor:
    for transform in reversed(fn.transforms):
        value = transform.inv(value)
    value = pathwise_at(fn.base_dist, value.detach())
    for transform in fn.transforms:
        value = transform(value)
    return value
