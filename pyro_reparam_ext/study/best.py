"""The best label of a study, and whether it can be told from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO

from ..errors import EstimatorError
from .again import Again
from .measured import Measured


@dataclass(frozen=True, eq=False)
class Best:
    """The unbiased label of a study with the least work-normalised variance.

    ``label``: its name. ``estimators``: what the study was given under it; one estimator, a mapping or
    a callable is what ``TraceEstimator_ELBO`` takes as ``estimators=``, too. ``elbo``: the ELBO that
    was measured, to train by. ``ties``: other unbiased labels whose work-normalised variance may be as
    small.
    """

    label: str
    estimators: Any
    elbo: ELBO
    ties: tuple[str, ...]


def best_of(results: Mapping[str, Measured], again: Again, names: list[str]) -> Best:
    """Compares intervals of variance times time."""
    intervals: dict[str, tuple[float, float, float]] = {}
    for label, result in results.items():
        if result.unbiased:
            variance, low, high = result.moments.variance(names)
            fast, slow = result.seconds_interval
            intervals[label] = variance * result.seconds, low * fast, high * slow
    if not intervals:
        raise EstimatorError(
            f"best: none of {', '.join(map(repr, results))} is unbiased, expected at least one. A bias "
            f"is not to be weighed against variance by a number: see summary(), or add an unbiased "
            f"estimator to the study."
        )
    label = min(intervals, key=lambda k: (intervals[k][0], results[k].seconds))
    limit = intervals[label][2]
    ties = tuple(k for k, (_, low, _) in intervals.items() if k != label and low <= limit)
    return Best(label, again.given[label], again.jobs[label].sampler.call.elbo, ties)
