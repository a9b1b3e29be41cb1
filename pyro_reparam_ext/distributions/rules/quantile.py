r"""Quantiles that are differentiable, and values as quantiles of uniform noise.

.. math::
    \frac{dx}{du} = \frac{1}{f_\theta(x)}, \qquad
    \frac{dx}{d\theta} = -\frac{\partial_\theta F_\theta(x)}{f_\theta(x)}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as td

from ...numerics.implicit import implicit_joint, once
from .copies import without_validation
from .dispatch import Rules, defines
from .noise_map import NoiseMap, register_noise_map
from .pathwise import pathwise_at

Rule = Callable[[Any, Tensor], Tensor]
_RULES: Rules[Rule] = Rules()
register_quantile = _RULES.register
"""A decorator: :func:`quantile` for some classes, and for what derives from them."""


def quantile(fn: Any, u: Tensor) -> Tensor:
    """The quantile, differentiable in ``u`` and in the parameters; by ``icdf`` without a rule."""
    rule = _RULES.of(type(fn))
    return fn.icdf(u) if rule is None else rule(fn, u)


def implicit_quantile(
    fn: Any, u: Tensor, inverse: Callable[[Any, Tensor], Tensor] = lambda fn, u: fn.icdf(u)
) -> Tensor:
    """The rule for a class whose ``icdf`` has no gradient. It can't be differentiated a second time."""
    with torch.no_grad():
        x = inverse(fn, u)
        density = without_validation(fn).log_prob(x).exp()  # it may be rounded to an open end
    return implicit_joint(x, _pull_back, pathwise_at(fn, x), u, density)


def _pull_back(
    gradient: Tensor, value: Tensor, drawn: Tensor, u: Tensor, density: Tensor
) -> tuple[Tensor | None, ...]:
    return gradient, once(gradient / density, u), None


@register_quantile(td.TransformedDistribution)
def _transformed(fn: td.TransformedDistribution, u: Tensor) -> Tensor:
    if type(fn).icdf is not td.TransformedDistribution.icdf:
        return fn.icdf(u)
    x = quantile(fn.base_dist, fn._monotonize_cdf(u))
    for transform in fn.transforms:
        x = transform(x)
    return x


def has(fn: Any, method: str) -> bool:
    """Whether it is more than the stub of torch's base class, also inside a transform."""
    owner = defines(type(fn), method)
    inner = getattr(fn, "base_dist", None)
    if isinstance(inner, td.Distribution) and owner is td.TransformedDistribution:
        return has(inner, method)
    return owner is not td.Distribution


def has_quantile(fn: Any) -> bool:
    """Whether ``fn`` is continuous and univariate, with a CDF and its inverse."""
    univariate = not fn.event_shape and has(fn, "icdf") and has(fn, "cdf")
    return univariate and not fn.support.is_discrete


def inside(u: Tensor) -> Tensor:
    """Off the ends, where quantiles are infinite."""
    eps = torch.finfo(u.dtype).eps
    return u.clamp(eps / 4, 1 - eps / 2)


def like(fn: td.Distribution, x: Tensor | float) -> Tensor:
    """Numbers take dtype and device of the parameters of ``fn``."""
    if isinstance(x, Tensor):
        return x
    inner: Any = fn
    while not inner.arg_constraints and hasattr(inner, "base_dist"):
        inner = inner.base_dist
    parameters = (getattr(inner, name, None) for name in inner.arg_constraints)
    first = next((p for p in parameters if isinstance(p, Tensor)), None)
    return torch.tensor(x) if first is None else first.new_tensor(x)


class StandardUniform(dist.Uniform):
    """Uniform on (0, 1), whose support has numbers as its ends, in whatever plates it lies."""

    support = td.constraints.unit_interval


def _uniform(fn: Any) -> StandardUniform:
    zero = like(fn, 0.0).expand(fn.batch_shape)
    return StandardUniform(zero, torch.ones_like(zero))


QUANTILE = NoiseMap(
    _uniform,
    lambda fn, noise: quantile(fn, inside(noise)),
    lambda fn, value: inside(fn.cdf(value)),
    has_quantile,
)
"""Of any distribution that has no other map."""
register_noise_map(td.Distribution)(QUANTILE)
