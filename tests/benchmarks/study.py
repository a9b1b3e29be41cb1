"""A gradient study against the same number of separate gradients."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pyro

import pyro_reparam_ext as pre

from .programs import BernoulliVAE, binary_images
from .timing import Row

PARTICLES = {"LeaveOneOut": 2}


def run(quick: bool = False) -> list[Row]:
    draws, calls, repetitions = (100, 20, 1) if quick else (1000, 100, 3)
    estimators = {
        "LeaveOneOut": pre.LeaveOneOut,
        "DisARM": pre.DisARM,
        "REBAR": pre.REBAR,
        "LocalExpectation": pre.LocalExpectation,
        "StraightThrough": pre.StraightThrough,
        "GumbelSoftmax": lambda: pre.GumbelSoftmax(1.0, score="discrete"),
    }
    vae, x = BernoulliVAE(64, 32, 64), binary_images(50, 64)
    rows = []
    for name, make in estimators.items():
        elbo = pre.TraceEstimator_ELBO(
            {"z": make()}, num_particles=PARTICLES.get(name, 1), max_plate_nesting=1
        )
        with pyro.validation_enabled(False):
            rows.append(_row(name, elbo, vae, x, draws, calls, repetitions))
    return rows


def _row(
    name: str,
    elbo: pre.TraceEstimator_ELBO,
    vae: BernoulliVAE,
    x: object,
    draws: int,
    calls: int,
    repetitions: int,
) -> Row:
    def study() -> None:
        pre.gradient_study(
            vae.model, vae.guide, x, estimators={name: elbo}, num_draws=draws, progress=False
        )

    def gradients() -> None:
        for _ in range(calls):
            vae.zero_grad()
            elbo.loss_and_grads(vae.model, vae.guide, x)

    gradients()
    pairs = [(_seconds(study), _seconds(gradients) * draws / calls) for _ in range(repetitions)]
    return Row(
        f"gradient_study, {draws:,} draws / as many loss_and_grads",
        name,
        median(mine for mine, _ in pairs),
        median(loop for _, loop in pairs),
        median(mine / loop for mine, loop in pairs),
        at_least=10,
    )


def _seconds(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
