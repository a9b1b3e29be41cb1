"""What each unbiased estimator is worth at discrete sites: its variance times its CPU time.

Early and late in training of a VAE of digits with Bernoulli and with one-hot latents, of a sigmoid
belief network of two layers, of a Poisson factor model, and of the Bayesian network of the chest clinic
(``examples/chest_clinic.py``, mean field). Work is the relative variance of the gradient times the CPU
seconds of one gradient, run eagerly, one thread; the table has that of ``ScoreFunction`` without a
baseline over that of each: how many times as fast the noise is averaged out.

``python -m tests.benchmarks.which_estimator`` prints the table; ``--problems`` and ``--draws`` make it
shorter, and so do ``--steps``, of training before it is late.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator

from .deep_digits import BeliefNetwork
from .discrete_digits import TABLES, Trained
from .poisson_factors import Factors
from .variances import elbo

BASE, EARLY = "ScoreFunction", 300
ESTIMATORS: dict[str, tuple[Estimator, int]] = {
    BASE: (pre.ScoreFunction(), 1),
    "ScoreFunction, ema": (pre.ScoreFunction("ema"), 1),
    "LeaveOneOut, 2": (pre.LeaveOneOut(), 2),
    "LeaveOneOut, 4": (pre.LeaveOneOut(), 4),
    "DisARM": (pre.DisARM(), 1),
    "RODEO": (pre.RODEO(), 1),
    "REBAR": (pre.REBAR(), 1),
    "LocalExpectation": (pre.LocalExpectation(), 1),
    "MeasureValued": (pre.MeasureValued(), 1),
    "Enumeration": (pre.Enumeration(), 1),
}
"""With the particles of their ELBO."""


class Program(NamedTuple):
    """A program whose guide was trained for some steps, and its arguments."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Problem:
    """How a program is made after some steps; the label of its reference, and the others."""

    make: Callable[[int], Program]
    reference: str
    labels: tuple[str, ...]
    early: int = EARLY
    late: int = 5000


def _digits(number: int) -> Callable[[int], Program]:
    def make(steps: int) -> Program:
        trained = Trained(TABLES[number], steps)
        return Program(trained.generate, trained.frozen_guide, (trained.x,))

    return make


def _layers(steps: int) -> Program:
    network = BeliefNetwork(steps)
    return Program(network.model, network.guide, (network.x,))


def _counts(steps: int) -> Program:
    factors = Factors(steps)
    return Program(factors.model, factors.guide, (factors.x,))


def _clinic(steps: int) -> Program:
    folder = str(Path(__file__).parents[2] / "examples")
    sys.path[:0] = [] if folder in sys.path else [folder]
    from chest_clinic import mean_field, model

    one = torch.tensor(1.0, dtype=torch.float64)
    evidence = dict.fromkeys(("asia", "xray", "dyspnoea"), one)
    pyro.clear_param_store()
    svi = SVI(model, mean_field, Adam({"lr": 0.1}), _elbo("Enumeration"))
    for _ in range(steps):
        svi.step(evidence)
    return Program(model, mean_field, (evidence,))


_BINARY = ("LeaveOneOut, 2", "LeaveOneOut, 4", "DisARM", "RODEO", "REBAR", "LocalExpectation")
_ONE = (BASE, "ScoreFunction, ema")
PROBLEMS = {
    "digits, Bernoulli": Problem(_digits(0), "LocalExpectation", (*_ONE, *_BINARY)),
    "digits, one-hot": Problem(_digits(2), "LocalExpectation", (*_ONE, *_BINARY)),
    "digits, two layers": Problem(_layers, "LocalExpectation", (*_ONE, *_BINARY)),
    "Poisson factors": Problem(
        _counts, "MeasureValued", (*_ONE, *_BINARY[:2], "MeasureValued"), early=0, late=2000
    ),
    "chest clinic": Problem(
        _clinic, "Enumeration", (*_ONE, *_BINARY, "Enumeration"), early=0, late=300
    ),
}


def _elbo(label: str) -> pre.TraceEstimator_ELBO:
    return elbo(*ESTIMATORS[label])


def measured(problem: Problem, steps: int, num_draws: int, warmup: int) -> pd.DataFrame:
    """By label: evaluations, relative variance, CPU seconds, and the work saved."""
    program = problem.make(steps)
    study = pre.gradient_study(
        program.model,
        program.guide,
        *program.args,
        estimators={label: _elbo(label) for label in problem.labels},
        num_draws=num_draws,
        warmup=warmup,
        reference=problem.reference,
    )
    frame = study.summary()[["evaluations", "relative_variance"]].copy()
    frame["ms"] = [1e3 * _seconds(_elbo(label), program) for label in frame.index]
    work = frame.relative_variance * frame.ms
    frame["gain"] = work[BASE] / work
    return frame


def _seconds(elbo: pre.TraceEstimator_ELBO, program: Program, calls: int = 10) -> float:
    """CPU time of one gradient."""
    for _ in range(2):
        elbo.loss_and_grads(program.model, program.guide, *program.args)
    start = time.process_time()
    for _ in range(calls):
        elbo.loss_and_grads(program.model, program.guide, *program.args)
    return (time.process_time() - start) / calls


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for name in args.problems:
        problem = PROBLEMS[name]
        late = problem.late if args.steps is None else args.steps
        frames = {
            state: measured(problem, steps, args.draws, args.warmup)
            for state, steps in {"early": problem.early, f"after {late} steps": late}.items()
        }
        frame = pd.concat(frames, axis=1)
        print(f"{name}\n{frame.to_string(float_format='%.3g')}\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Variance times CPU time of estimators.")
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--steps", type=int, default=None)
    main(parser.parse_args())
