"""Mixtures as what they are made of: weights, and one distribution for each component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
from torch import Tensor
from torch import distributions as td

from .dispatch import Rules


class MixtureParts(NamedTuple):
    """The last batch dim is that of the components."""

    log_weights: Tensor
    component: Any


_RULES: Rules[Callable[[Any], MixtureParts]] = Rules("log_prob")
register_mixture_parts = _RULES.register
"""A decorator: :func:`mixture_parts` of some classes."""


def is_mixture(fn: Any) -> bool:
    """Whether the parts of a distribution are known."""
    return _RULES.of(type(fn)) is not None


def mixture_parts(fn: Any) -> MixtureParts:
    """The parts of a mixture, differentiable in its parameters."""
    rule = _RULES.of(type(fn))
    assert rule is not None, type(fn)
    return rule(fn)


@register_mixture_parts(td.MixtureSameFamily)
def mixture_same_family(fn: Any) -> MixtureParts:
    return MixtureParts(fn.mixture_distribution.logits.log_softmax(-1), fn.component_distribution)


@register_mixture_parts(dist.MixtureOfDiagNormals)
def mixture_of_diag_normals(fn: Any) -> MixtureParts:
    return _normals(fn, fn.coord_scale)


@register_mixture_parts(dist.MixtureOfDiagNormalsSharedCovariance)
def mixture_of_diag_normals_shared_covariance(fn: Any) -> MixtureParts:
    return _normals(fn, fn.coord_scale.unsqueeze(-2))


def _normals(fn: Any, scale: Tensor) -> MixtureParts:
    component = dist.Normal(fn.locs, scale.expand_as(fn.locs), validate_args=False).to_event(1)
    return MixtureParts(fn.component_logits.log_softmax(-1), component)
