"""Gradient estimators for every sample site of a Pyro guide, and their measured variance and bias."""

from . import estimators
from .config import config_estimator
from .elbo import TraceEstimator_ELBO
from .errors import EstimatorError
from .estimators import *  # noqa: F403
from .estimators import __all__ as _estimators
from .estimators.temperature import ExponentialDecay
from .study.study import GradientStudy, Variant, gradient_study

__all__ = sorted(
    [
        *_estimators,
        "EstimatorError",
        "ExponentialDecay",
        "GradientStudy",
        "TraceEstimator_ELBO",
        "Variant",
        "config_estimator",
        "estimators",
        "gradient_study",
    ]
)
