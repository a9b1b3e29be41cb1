"""Studies of several estimators of a benchmark: their ELBOs, and the table of their variances."""

from __future__ import annotations

import pandas as pd

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator

COLUMNS = [
    *("unbiased", "evaluations", "relative_variance", "low", "high"),
    *("relative_bias", "bias_z", "seconds_per_gradient"),
]


def elbo(estimator: Estimator, particles: int = 1) -> pre.TraceEstimator_ELBO:
    """That of a program with one plate."""
    nesting = 1 if particles == 1 else 2
    return pre.TraceEstimator_ELBO(estimator, num_particles=particles, max_plate_nesting=nesting)


def relative(study: pre.GradientStudy) -> pd.DataFrame:
    """Variances over the squared norm of the mean, with the ends of their intervals."""
    summary: pd.DataFrame = study.summary()
    scale = summary.relative_variance / summary.variance
    summary["low"], summary["high"] = scale * summary.variance_low, scale * summary.variance_high
    return summary[COLUMNS]
