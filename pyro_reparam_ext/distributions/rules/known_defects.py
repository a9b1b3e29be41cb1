"""Defects that samplers and their gradients are known to have, by the class of a distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from torch import distributions as td

from .dispatch import Rules
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
