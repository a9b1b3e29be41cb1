"""Gradient estimators for every site of a Pyro guide, and their measured variance and bias."""

from . import distributions, estimators, nn, reparam, testing
from .compiled.run import run_svi
from .compiled.svi import CompiledSVI
from .config import config_estimator
from .diagnostics.calibration import simulate_calibration
from .diagnostics.check import check_guide
from .diagnostics.guide_check import GuideCheck
from .diagnostics.marginals import marginals
from .elbo import TraceEstimator_ELBO
from .errors import EstimatorError
from .estimators import (
    REBAR,
    DisARM,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    LocalExpectation,
    Pathwise,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)
from .study.driver import gradient_study
from .study.result import GradientStudy
from .study.variant import Variant
from .temperature import ExponentialDecay

__version__ = "0.1.0"

__all__ = [
    "CompiledSVI",
    "DisARM",
    "Enumeration",
    "EstimatorError",
    "ExponentialDecay",
    "GradientStudy",
    "GuideCheck",
    "GumbelSoftmax",
    "LeaveOneOut",
    "LocalExpectation",
    "Pathwise",
    "REBAR",
    "ScoreFunction",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "TraceEstimator_ELBO",
    "Variant",
    "check_guide",
    "config_estimator",
    "distributions",
    "estimators",
    "gradient_study",
    "marginals",
    "nn",
    "reparam",
    "run_svi",
    "simulate_calibration",
    "testing",
]
