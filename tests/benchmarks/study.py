"""A gradient study against the same number of separate gradients."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.study import draws as draws_of_a_study

from .programs import BernoulliVAE, binary_images
from .timing import Row

PARTICLES = {"LeaveOneOut": 2}
COMPILED = {"LeaveOneOut": 20.0, "DisARM": 20.0, "REBAR": 20.0, "LocalExpectation": 8.0}
"""How many times as fast as single gradients a study should be whose graph was compiled before."""


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
    clocks = {
        "CPU time, one thread": (1, time.process_time),
        "wall clock, all cores": (os.cpu_count() or 1, time.perf_counter),
    }
    rows = []
    for clock, (threads, now) in clocks.items():
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for name, make in estimators.items():
            elbo = pre.TraceEstimator_ELBO(
                {"z": make()}, num_particles=PARTICLES.get(name, 1), max_plate_nesting=1
            )

            def study(draws: int, name: str = name, elbo: Any = elbo) -> None:
                given = {"estimators": {name: elbo}, "num_draws": draws, "progress": False}
                pre.gradient_study(vae.model, vae.guide, x, **given)

            def gradients(elbo: Any = elbo) -> None:
                for _ in range(calls):
                    vae.zero_grad()
                    elbo.loss_and_grads(vae.model, vae.guide, x)

            study(100), gradients()
            title = f"{name}, {clock}"
            rows.append(_row(title, study, gradients, draws, calls, repetitions, now, 10.0))
            if threads == 1 and name in COMPILED and not quick:
                with patch.multiple(draws_of_a_study, CAPTURE_PAYS=0.0, COMPILING_PAYS=0.0):
                    study(1_000)  # compiles, and keeps the code
                title = f"{name}, compiled before, {clock}"
                at_least = COMPILED[name]
                rows.append(_row(title, study, gradients, 40_000, calls, 1, now, at_least))
        torch.set_num_threads(before)
    return rows


def _row(
    name: str,
    study: Callable[[int], None],
    gradients: Callable[[], None],
    draws: int,
    calls: int,
    repetitions: int,
    now: Callable[[], float],
    at_least: float,
) -> Row:
    def seconds(call: Callable[[], None]) -> float:
        start = now()
        call()
        return now() - start

    pairs = [
        (seconds(lambda: study(draws)), seconds(gradients) * draws / calls) for _ in range(repetitions)
    ]
    return Row(
        f"gradient_study, {draws:,} draws / as many loss_and_grads",
        name,
        median(mine for mine, _ in pairs),
        median(loop for _, loop in pairs),
        median(mine / loop for mine, loop in pairs),
        at_least=at_least,
    )
