"""Gradient estimators for every site of a Pyro guide, and their measured variance and bias."""

from . import distributions, estimators, nn, reparam, testing
from .compiled.run import run_svi
from .compiled.svi import CompiledSVI
from .config import config_estimator
from .convergence.converged import Converged
from .convergence.loss_converged import LossConverged
from .convergence.rule import StoppingRule, Verdict
from .diagnostics.calibration import simulate_calibration
from .diagnostics.check import check_guide
from .diagnostics.guide_check import GuideCheck
from .diagnostics.marginals import marginals
from .elbo import TraceEstimator_ELBO
from .errors import EstimatorError
from .estimators import (
    ARM,
    ARMS,
    REBAR,
    RELAX,
    RODEO,
    SIMPLE,
    AnalyticKL,
    BitFlip,
    Combine,
    DecoupledStraightThrough,
    DisARM,
    DoubleCV,
    Enumeration,
    GappedStraightThrough,
    GaussHermite,
    GumbelRao,
    GumbelSoftmax,
    JointControlVariate,
    LeaveOneOut,
    LocalExpectation,
    MeasureValued,
    MuProp,
    Pathwise,
    ReinMax,
    ScoreFunction,
    StickingTheLanding,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    Stratified,
    TaylorControlVariate,
    UnorderedSet,
)
from .fitting.fit import Fit, fit
from .fitting.posterior_data import posterior_datasets, to_datatree, to_inferencedata
from .importance_weighted import ImportanceWeighted_ELBO
from .inspection.sites import inspect_sites
from .monitoring.gradient_monitor import GradientMonitor
from .schedule import ExponentialDecay, LinearWarmup
from .snapshot import take_snapshot
from .study import auto as _auto  # noqa: F401  (tells ELBOs how to choose)
from .study.driver import gradient_study
from .study.result import GradientStudy
from .study.selection import Selection, select_estimators
from .study.variant import Variant

__version__ = "0.1.0"

__all__ = [
    "ARM",
    "AnalyticKL",
    "ARMS",
    "CompiledSVI",
    "BitFlip",
    "Combine",
    "Converged",
    "DecoupledStraightThrough",
    "DisARM",
    "DoubleCV",
    "Enumeration",
    "EstimatorError",
    "ExponentialDecay",
    "Fit",
    "GappedStraightThrough",
    "GradientMonitor",
    "GradientStudy",
    "GuideCheck",
    "GaussHermite",
    "GumbelRao",
    "GumbelSoftmax",
    "ImportanceWeighted_ELBO",
    "JointControlVariate",
    "LeaveOneOut",
    "LinearWarmup",
    "LocalExpectation",
    "LossConverged",
    "MeasureValued",
    "MuProp",
    "Pathwise",
    "REBAR",
    "RELAX",
    "RODEO",
    "ReinMax",
    "SIMPLE",
    "ScoreFunction",
    "Selection",
    "StoppingRule",
    "StickingTheLanding",
    "TaylorControlVariate",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "Stratified",
    "UnorderedSet",
    "TraceEstimator_ELBO",
    "Variant",
    "Verdict",
    "check_guide",
    "config_estimator",
    "distributions",
    "estimators",
    "fit",
    "gradient_study",
    "inspect_sites",
    "marginals",
    "nn",
    "posterior_datasets",
    "reparam",
    "run_svi",
    "select_estimators",
    "simulate_calibration",
    "take_snapshot",
    "testing",
    "to_datatree",
    "to_inferencedata",
]
