"""The estimators that belief nets are trained by, each with the particles of its ELBO."""

from __future__ import annotations

import torch
from pyro.distributions import Bernoulli

import pyro_reparam_ext as pre

CANDIDATES: dict[str, tuple[pre.estimators.base.Estimator, int]] = {
    "ScoreFunction, ema": (pre.ScoreFunction(baseline="ema"), 1),
    "LeaveOneOut, 2 particles": (pre.LeaveOneOut(), 2),
    "LeaveOneOut, 4 particles": (pre.LeaveOneOut(), 4),
    "DisARM": (pre.DisARM(), 1),
    "ARMS, 4 samples": (pre.ARMS(num_samples=4), 1),
    "DoubleCV, 2 samples": (pre.DoubleCV(), 1),
    "RODEO, 2 samples": (pre.RODEO(), 1),
    "REBAR": (pre.REBAR(), 1),
    "RELAX": (pre.RELAX(), 1),
    "LocalExpectation": (pre.LocalExpectation(max_evaluations=64), 1),
}
FEW = ("LeaveOneOut, 2 particles", "DisARM", "REBAR", "RELAX")
"""Those that are compared on images that take long."""


def make_elbo(label: str) -> pre.TraceEstimator_ELBO:
    estimator, particles = CANDIDATES[label]
    return pre.TraceEstimator_ELBO(estimator, num_particles=particles, max_plate_nesting=1)


def evaluations(label: str, units: int, layers: int) -> int:
    """Runs of the program for one gradient: those of each layer beside the one that all share."""
    estimator, particles = CANDIDATES[label]
    further = estimator.evaluations(Bernoulli(logits=torch.zeros(units)).to_event(1)) - 1
    return particles * (1 + layers * further)
