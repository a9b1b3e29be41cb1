"""A variant: a label of a study that is more than a configuration of estimators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO

from ..config import Configuration
from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..estimators.base import Estimator, least_particles
from .elbo_call import ElboCall


@dataclass(frozen=True, eq=False)
class Variant:
    """One label of a study that has an ELBO, a context, a model or a guide of its own.

    Args:
        estimators: a configuration as ``TraceEstimator_ELBO`` takes it.
        elbo: any ``pyro.infer.ELBO``, in place of ``estimators``.
        context: called for a context manager that is entered around every run. What it yields may
            say by an attribute ``unbiased`` that it makes the gradient biased.
        model: replaces the model of the study.
        guide: replaces the guide of the study.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> four = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=4)
        >>> variant = pre.Variant(elbo=four)
    """

    estimators: Configuration = None
    elbo: ELBO | None = None
    context: Callable[[], AbstractContextManager] | None = None
    model: Callable[..., Any] | None = None
    guide: Callable[..., Any] | None = None


def call_of(
    label: str,
    value: Any,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
) -> ElboCall:
    variant = value if isinstance(value, Variant) else None
    if variant is None:
        variant = Variant(elbo=value) if isinstance(value, ELBO) else Variant(estimators=value)
    try:
        elbo = variant.elbo or _elbo(variant.estimators)
    except EstimatorError as error:
        raise EstimatorError(f"estimators[{label!r}]: {error}") from error
    return ElboCall(
        elbo,
        variant.model or model,
        variant.guide or guide,
        args,
        kwargs,
        variant.context or nullcontext,
    )


def _elbo(configuration: Configuration) -> TraceEstimator_ELBO:
    """An ELBO with as many particles as the estimators need."""
    values = configuration.values() if isinstance(configuration, Mapping) else [configuration]
    particles = least_particles(value for value in values if isinstance(value, Estimator))
    return TraceEstimator_ELBO(configuration, num_particles=particles)
