"""The estimators that the VAE is trained by, each with an ELBO of as many particles as it takes."""

from __future__ import annotations

from collections.abc import Callable

from pyro.distributions import TorchDistribution

import pyro_reparam_ext as pre

Made = tuple[pre.estimators.base.Estimator, int]
"""An estimator, and the particles of its ELBO."""

CANDIDATES: dict[str, Callable[[], Made]] = {
    "Pathwise": lambda: (pre.Pathwise(), 1),
    "Pathwise, 4 particles": lambda: (pre.Pathwise(), 4),
    "ScoreFunction, ema": lambda: (pre.ScoreFunction(baseline="ema"), 1),
    "LeaveOneOut, 2 particles": lambda: (pre.LeaveOneOut(), 2),
    "LeaveOneOut, 4 particles": lambda: (pre.LeaveOneOut(), 4),
    "DisARM": lambda: (pre.DisARM(), 1),
    "DisARM, 2 pairs": lambda: (pre.DisARM(num_pairs=2), 1),
    "REBAR": lambda: (pre.REBAR(), 1),
    "LocalExpectation": lambda: (pre.LocalExpectation(max_evaluations=64), 1),
    "GumbelSoftmax, T=1": lambda: (pre.GumbelSoftmax(1.0, score="discrete"), 1),
    "StraightThrough": lambda: (pre.StraightThrough(), 1),
    "ST-GumbelSoftmax, T=1": lambda: (pre.StraightThroughGumbelSoftmax(1.0), 1),
}
"""Those that are compared, by label."""
OTHERS: dict[str, Callable[[], Made]] = {
    "GumbelRao": lambda: (pre.GumbelRao(1.0, num_samples=10), 1),
    "GappedStraightThrough": lambda: (pre.GappedStraightThrough(1.0), 1),
    "DecoupledStraightThrough": lambda: (pre.DecoupledStraightThrough(0.5, 1.0), 1),
}
"""Those that have options without a default."""


def as_elbo(made: Made) -> pre.TraceEstimator_ELBO:
    estimator, particles = made
    # By name, so that latents it doesn't serve are an error.
    return pre.TraceEstimator_ELBO({"z": estimator}, num_particles=particles, max_plate_nesting=1)


def candidates(fn: TorchDistribution) -> dict[str, pre.TraceEstimator_ELBO]:
    """Fresh ELBOs of the candidates that serve sites of that distribution."""
    made = {label: make() for label, make in CANDIDATES.items()}
    return {label: as_elbo(made[label]) for label in made if made[label][0].supports(fn)}


def by_class_name(name: str) -> pre.TraceEstimator_ELBO:
    """The ELBO of the first candidate of that class; of any other estimator, with its defaults."""
    for make in (*CANDIDATES.values(), *OTHERS.values()):
        made = make()
        if type(made[0]).__name__ == name:
            return as_elbo(made)
    return as_elbo((getattr(pre, name)(), 1))
