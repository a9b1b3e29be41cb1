"""Common random numbers: the value of a site under a changed distribution.

``couple(old, value, new)`` takes a ``value`` drawn from ``old`` and returns one distributed as
``new``, made from the noise that ``value`` was made from (``noise_map.py``). Where that noise is not
known it is drawn from its posterior given ``value``, so nothing has to be recorded when the value is
drawn. Elements whose distribution did not change keep their value exactly, so that their costs cancel.
A distribution without a noise map is drawn anew: that is right, only without the variance reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch import distributions as td

from ...numerics.straight_through import straight_through
from . import count_noise, gamma_noise, quantile, relaxed_noise  # noqa: F401  (their maps)
from .dispatch import Rules
from .logits import exact_logits
from .noise_map import transport
from .pathwise import pathwise_at
from .wrappers import WRAPPERS, coordinates


def couple(old: TorchDistribution, value: Tensor, new: TorchDistribution) -> Tensor:
    """A value distributed as ``new`` from the noise of ``value``, a draw of ``old``.

    ``new`` may have more batch dims on the left; differentiable in its parameters where ``new`` has
    a pathwise sampler.
    """
    old, new = coordinates(old), coordinates(new)
    with torch.no_grad():
        coupled = transport(value, old, new)
        if coupled is None:
            coupled = _fresh(new)
        same = _unchanged(old, new)
        if same is not None:
            same = same.reshape(same.shape + (1,) * len(new.event_shape))
            coupled = torch.where(same, value, coupled)
    if not (torch.is_grad_enabled() and new.has_rsample):
        return coupled
    # A value that is kept moves too: equal parameters may be different functions, as w * z at w = 0.
    try:
        return straight_through(coupled, pathwise_at(new, coupled))
    except NotImplementedError:
        return _fresh(new)


def _fresh(new: TorchDistribution) -> Tensor:
    if isinstance(new, TorchDistributionMixin):
        return new()
    return new.rsample() if new.has_rsample else new.sample()


def _unchanged(old: TorchDistribution, new: TorchDistribution) -> Tensor | None:
    """Which batch elements have the same parameters in both; None if that can't be told."""
    before, after = parameters(old), parameters(new)
    if not before or not after or len(before) != len(after):
        return None
    same: Tensor | None = None
    for (a, event_dim), (b, _) in zip(before, after, strict=True):
        equal = a == b
        if not isinstance(equal, Tensor):  # of numbers or transforms
            if not equal:
                return None
            continue
        for _ in range(min(event_dim, equal.dim())):
            equal = equal.all(-1)
        same = equal if same is None else same & equal
    return None if same is None else same.expand(new.batch_shape)


Parameters = list[tuple[Any, int]]
_RULES: Rules[Callable[[Any], Parameters | None]] = Rules()
register_parameters = _RULES.register
"""A decorator: :func:`parameters` for some classes, and for what derives from them."""


def parameters(fn: Any) -> Parameters | None:
    """The parameters that determine ``fn``, with the event dims of each; None if not known."""
    rule = _RULES.of(type(fn)) or _constrained
    return rule(fn)


def _constrained(fn: Any) -> Parameters | None:
    attributes = vars(fn)
    if any(isinstance(v, td.Distribution) for v in attributes.values()):
        return None
    named = [(attributes.get(k), c.event_dim) for k, c in fn.arg_constraints.items()]
    return named if all(isinstance(v, Tensor) for v, _ in named) else None


def _named(*names: str, event_dim: int = 0) -> Callable[[Any], Parameters]:
    return lambda fn: [(getattr(fn, name), event_dim) for name in names]


def _with_logits(*names: str, event_dim: int = 0) -> Callable[[Any], Parameters]:
    return lambda fn: [*_named(*names)(fn), (exact_logits(fn), event_dim)]


register_parameters(td.Bernoulli, td.Geometric)(_with_logits())
register_parameters(td.Categorical, td.OneHotCategorical)(_with_logits(event_dim=1))
register_parameters(td.Binomial, td.NegativeBinomial)(_with_logits("total_count"))
register_parameters(dist.BetaBinomial)(_named("total_count", "concentration1", "concentration0"))
register_parameters(td.Beta)(_named("concentration1", "concentration0"))
register_parameters(td.Gamma, dist.GammaPoisson)(_named("concentration", "rate"))
register_parameters(td.StudentT)(_named("df", "loc", "scale"))
register_parameters(td.ContinuousBernoulli)(_named("logits"))
register_parameters(td.RelaxedBernoulli, relaxed_noise.LogitRelaxedBernoulli)(
    _named("temperature", "logits")
)
register_parameters(td.Weibull)(_named("scale", "concentration"))
register_parameters(td.HalfNormal, td.HalfCauchy)(_named("scale"))
register_parameters(td.Gumbel)(_named("loc", "scale"))
register_parameters(td.Pareto)(_named("scale", "alpha"))
register_parameters(td.FisherSnedecor)(_named("df1", "df2"))
register_parameters(td.LKJCholesky)(_named("concentration"))


@register_parameters(td.RelaxedOneHotCategorical, relaxed_noise.ExpRelaxedCategorical)
def _relaxed_one_hot(fn: Any) -> Parameters:
    return [(fn.temperature, 1), (fn.logits, 1)]  # it broadcasts with the logits


@register_parameters(td.Wishart)
def _wishart(fn: Any) -> Parameters:
    return [(fn.df, 0), (fn._unbroadcasted_scale_tril, 2)]


@register_parameters(td.MultivariateNormal)
def _multivariate_normal(fn: Any) -> Parameters:
    return [(fn.loc, 1), (fn._unbroadcasted_scale_tril, 2)]


@register_parameters(dist.MultivariateStudentT)
def _multivariate_student(fn: Any) -> Parameters:
    return [(fn.df, 0), (fn.loc, 1), (fn._unbroadcasted_scale_tril, 2)]


@register_parameters(td.LowRankMultivariateNormal)
def _low_rank(fn: Any) -> Parameters:
    return [(fn.loc, 1), (fn._unbroadcasted_cov_factor, 2), (fn._unbroadcasted_cov_diag, 1)]


@register_parameters(dist.Delta)
def _delta(fn: Any) -> Parameters:
    return [(fn.v, fn.event_dim)]


@register_parameters(*WRAPPERS)
def _wrapped(fn: Any) -> Parameters | None:
    given, more = parameters(fn.base_dist), len(fn.event_shape) - len(fn.base_dist.event_shape)
    return None if given is None else [(x, dim + more) for x, dim in given]


@register_parameters(td.TransformedDistribution)
def _transformed(fn: Any) -> Parameters | None:
    found, event_dim = _wrapped(fn), len(fn.event_shape)
    if found is None:
        return None
    return found + [(x, event_dim) for transform in fn.transforms for x in _of_transform(transform)]


def _of_transform(transform: Any) -> list[Any]:
    """Its numbers where it is known for them, else itself: transforms know when they are equal."""
    if isinstance(transform, td.AffineTransform):
        return [transform.loc, transform.scale]
    if isinstance(transform, td.PowerTransform):
        return [transform.exponent]
    if isinstance(transform, td.transforms._InverseTransform):
        return _of_transform(transform._inv)
    if isinstance(transform, td.IndependentTransform):
        return _of_transform(transform.base_transform)
    if isinstance(transform, td.ComposeTransform):
        return [x for part in transform.parts for x in _of_transform(part)]
    return [transform]


@register_parameters(td.MixtureSameFamily)
def _mixture(fn: Any) -> Parameters | None:
    components = parameters(fn.component_distribution)
    if components is None:
        return None
    return [(exact_logits(fn.mixture_distribution), 1), *((x, dim + 1) for x, dim in components)]
