"""Defects that samplers and their gradients are known to have, by the class of a distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as td

from .beyond_floats import (
    beta_draws_below,
    gamma_draws_below,
    kumaraswamy_draws_at_ends,
    log_tiny,
    relaxed_bernoulli_draws_at_ends,
    relaxed_one_hot_draws_with_a_zero,
    student_t_draws_of_nan_gradient,
)
from .dispatch import Rules
from .mixture_components import obstacle
from .wrappers import innermost

Fact = Callable[[Any], bool]
_BIASED: Rules[Fact] = Rules()
register_biased = _BIASED.register
"""A decorator: for which distributions of some classes :func:`is_biased_sampler` holds."""
_SCORED_OTHERWISE: Rules[Fact] = Rules()
register_scored_otherwise = _SCORED_OTHERWISE.register
"""The same for :func:`is_scored_otherwise`."""
_ONCE: Rules[bool] = Rules("rsample")
register_differentiable_once = _ONCE.register
"""A decorator of a bool: :func:`is_differentiable_once` of some classes; whether :func:`has_twin`."""


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a sampler, its gradient or its density.

    ``what`` says it in a few words; ``instead`` names the class of ``pre.distributions`` to take.
    """

    what: str
    instead: str


_DEFECTS: Rules[Callable[[Any], Iterator[Defect]]] = Rules("rsample")
register_defects = _DEFECTS.register
"""A decorator: the :func:`defects` of some classes, unless they have another sampler."""

CUT = 1e-3
"""The share of draws cut to a float from which a gradient is off by more than so much of itself."""
NAN = 1e-6
"""The share of draws with a NaN that is too many: a single one spoils a step of training."""
LARGE, SMALL = 1e4, 6.0
"""The two concentrations from which torch's Beta gradient in the smaller one is off by 3 % and more."""


def defects(fn: Any) -> tuple[Defect, ...]:
    """The known defects of a distribution of torch or Pyro, at the values that its parameters have.

    It reads these values, for which a GPU has to be waited for. A transform has those of its base.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions.rules.known_defects import defects
        >>> defects(dist.Gamma(torch.tensor(0.01), 1.0))
        (Defect(what='42 % of draws underflow: wrong gradient', instead='Gamma'),)
        >>> defects(dist.Gamma(torch.tensor(1.0), 1.0))
        ()
    """
    base = innermost(fn)
    while True:
        rule = _DEFECTS.of(type(base))
        if rule is not None or not isinstance(base, td.TransformedDistribution):
            return () if rule is None else tuple(rule(base))
        base = innermost(base.base_dist)


def always(fn: Any) -> bool:
    """A fact of a whole class."""
    return True


def is_biased_sampler(fn: Any) -> bool:
    """Whether the gradient of ``fn.rsample`` is known to be biased."""
    return _holds(_BIASED, fn)


def is_hard_but_relaxed(fn: Any) -> bool:
    """Whether values are hard and their density is of relaxed ones: no score function serves them."""
    return isinstance(innermost(fn), _HARD_BUT_RELAXED)


def is_scored_otherwise(fn: Any) -> bool:
    """Whether another law scores the values than the one that they are samples of."""
    return _holds(_SCORED_OTHERWISE, fn)


def has_biased_gradient(fn: Any) -> bool:
    """Whether the gradient of an ELBO is biased, by the sampler or by the score."""
    return is_biased_sampler(fn) or is_scored_otherwise(fn)


def is_differentiable_once(fn: Any) -> bool:
    """Whether a second derivative of the sampler raises or, in torch and Pyro, lacks a part in silence.

    That of a transform is that of its base.
    """
    return _once(fn) is not None


def has_twin(fn: Any) -> bool:
    """Whether AutoPathwise replaces ``fn`` by what can be differentiated twice."""
    return bool(_once(fn))


def _holds(rules: Rules[Fact], fn: Any) -> bool:
    base = innermost(fn)
    fact = rules.of(type(base))
    return fact is not None and fact(base)


def _once(fn: Any) -> bool | None:
    base = innermost(fn)
    while isinstance(base, td.TransformedDistribution):
        base = innermost(base.base_dist)
    return _ONCE.of(type(base))


_HARD_BUT_RELAXED = (
    dist.RelaxedBernoulliStraightThrough,
    dist.RelaxedOneHotCategoricalStraightThrough,
)
register_scored_otherwise(*_HARD_BUT_RELAXED)(always)
register_biased(
    dist.OneHotCategoricalStraightThrough,
    dist.MixtureOfDiagNormals,
    dist.MixtureOfDiagNormalsSharedCovariance,
)(always)
register_differentiable_once(td.Gamma, td.Beta, td.Dirichlet, td.StudentT, td.Wishart)(True)
register_differentiable_once(
    td.FisherSnedecor,
    dist.AVFMultivariateNormal,
    dist.GaussianScaleMixture,
    dist.OMTMultivariateNormal,
)(False)


def _always(what: str, instead: str) -> Callable[[Any], Iterator[Defect]]:
    return lambda fn: iter([Defect(what, instead)])


for _cls, _what, _instead in (
    (dist.MixtureOfDiagNormals, "biased gradient in component_logits", "MixtureOfDiagNormals"),
    (
        dist.MixtureOfDiagNormalsSharedCovariance,
        "biased gradient in component_logits",
        "MixtureOfDiagNormalsSharedCovariance",
    ),
    (
        dist.OneHotCategoricalStraightThrough,
        "log_prob has no gradient in the value",
        "StraightThroughOneHotCategorical",
    ),
    (
        dist.RelaxedBernoulliStraightThrough,
        "hard values scored by a relaxed density",
        "StraightThroughBernoulli",
    ),
    (
        dist.RelaxedOneHotCategoricalStraightThrough,
        "hard values scored by a relaxed density",
        "StraightThroughOneHotCategorical",
    ),
    (td.Wishart, "backward fails for a sample_shape", "Wishart"),
    (td.VonMises, "no pathwise sampler", "VonMises"),
    (dist.VonMises3D, "no pathwise sampler", "VonMisesFisher"),
    (td.LKJCholesky, "no pathwise sampler", "LKJCholesky"),
):
    register_defects(_cls)(_always(_what, _instead))


@register_defects(td.MixtureSameFamily)
def _mixture(fn: Any) -> Iterator[Defect]:
    if obstacle(fn.component_distribution) is None:
        yield Defect("no pathwise sampler", "MixtureSameFamily")


@register_defects(td.ContinuousBernoulli)
def _continuous_bernoulli(fn: Any) -> Iterator[Defect]:
    low, high = fn._lims
    if _any((fn.probs > low) & (fn.probs <= high)):
        yield Defect("gradient 0 for probs near 0.5", "ContinuousBernoulli")


@register_defects(td.GeneralizedPareto)
def _generalized_pareto(fn: Any) -> Iterator[Defect]:
    c = fn.concentration
    if _any(c.abs() <= max(1e-8, 4 * torch.finfo(c.dtype).eps)):
        yield Defect("gradient lost at concentration 0", "GeneralizedPareto")


@register_defects(td.Gamma)
def _gamma(fn: Any) -> Iterator[Defect]:
    share = gamma_draws_below(fn.concentration, log_tiny(fn.concentration))
    if share > CUT:
        yield Defect(f"{_percent(share)} of draws underflow: wrong gradient", "Gamma")


@register_defects(td.Beta)
def _beta(fn: Any) -> Iterator[Defect]:
    yield from _beta_like(fn.concentration1, fn.concentration0, "Beta")


@register_defects(td.Dirichlet)
def _dirichlet(fn: Any) -> Iterator[Defect]:
    a = fn.concentration
    yield from _beta_like(a, a.sum(-1, keepdim=True) - a, "Dirichlet")


def _beta_like(a: Tensor, b: Tensor, instead: str) -> Iterator[Defect]:
    share = beta_draws_below(a, b, log_tiny(a))
    if share > CUT:
        yield Defect(f"{_percent(share)} of draws underflow: wrong gradient", instead)
    if _any((torch.minimum(a, b) <= SMALL) & (torch.maximum(a, b) >= LARGE)):
        yield Defect("wrong gradient in a small beside a large concentration", instead)


@register_defects(td.StudentT)
def _student_t(fn: Any) -> Iterator[Defect]:
    share = student_t_draws_of_nan_gradient(fn)
    if share > NAN:
        yield Defect(f"NaN gradient for {_percent(share)} of draws", "StudentT")


@register_defects(td.Kumaraswamy)
def _kumaraswamy(fn: Any) -> Iterator[Defect]:
    share = kumaraswamy_draws_at_ends(fn)
    if share > NAN:
        yield Defect(f"NaN density for {_percent(share)} of draws", "Kumaraswamy")


@register_defects(td.RelaxedOneHotCategorical)
def _relaxed_one_hot(fn: Any) -> Iterator[Defect]:
    share = relaxed_one_hot_draws_with_a_zero(fn)
    if share > NAN:
        yield Defect(f"NaN density for {_percent(share)} of draws", "RelaxedOneHotCategorical")


@register_defects(td.RelaxedBernoulli)
def _relaxed_bernoulli(fn: Any) -> Iterator[Defect]:
    share = relaxed_bernoulli_draws_at_ends(fn)
    if share > CUT:
        yield Defect(f"{_percent(share)} of draws cut to 0 or 1: wrong gradient", "RelaxedBernoulli")


def _any(where: Tensor) -> bool:
    return bool(where.any())


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share > 1e-5 else f"{100 * share:.0e} %"
