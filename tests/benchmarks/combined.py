"""What a combination of pathwise gradients takes from the noise, beside each of its parts.

A logistic regression of breast cancer and, with ``--data-dir``, the hierarchical counts of stops by the
police (``examples/regression.py``), by a mean-field guide, along a run; 16 particles, and 200 steps in
which the weights are fitted. Then the CPU time of a step of the regression::

    python -m tests.benchmarks.combined --data-dir data/frisk
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam

import pyro_reparam_ext as pre

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from counts import load
from counts import model as counts_model
from regression import cells, logistic

PARTICLES, WARMUP = 16, 200
PATHWISE, LANDING, TAYLOR = pre.Pathwise(), pre.StickingTheLanding(), pre.TaylorControlVariate()
ESTIMATORS = {
    "Pathwise": PATHWISE,
    "StickingTheLanding": LANDING,
    "Combine of both": pre.Combine([PATHWISE, LANDING]),
}


def elbo_of(estimator: pre.estimators.Estimator, particles: str = "independent") -> Any:
    return pre.TraceEstimator_ELBO(
        estimator, num_particles=PARTICLES, particles=particles, max_plate_nesting=2
    )


def gains(model: Callable[..., Any], data: tuple, args: argparse.Namespace) -> pd.DataFrame:
    """The variance of the plain gradient over that of each, at some steps of a run."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide = AutoNormal(model, init_scale=0.1)
    optim = ClippedAdam({"lr": 0.05, "lrd": 0.1 ** (1 / args.steps)})
    svi = SVI(model, guide, optim, elbo_of(LANDING, "antithetic"))
    svi.step(*data)
    columns, done = {}, 1
    for phase in (1, args.steps // 100, args.steps // 20, args.steps // 2, args.steps):
        for _ in range(phase - done):
            svi.step(*data)
        done = max(phase, done)
        study = pre.gradient_study(
            model,
            guide,
            *data,
            estimators={name: elbo_of(estimator) for name, estimator in ESTIMATORS.items()},
            num_draws=args.draws,
            warmup=WARMUP,
        )
        summary = study.summary()
        assert summary.bias_z.max() < 5, summary
        columns[f"step {phase}"] = summary.variance["Pathwise"] / summary.variance
    return pd.DataFrame(columns)


def seconds(model: Callable[..., Any], data: tuple, args: argparse.Namespace) -> pd.DataFrame:
    """CPU time of a step, the median over blocks in turns, eager and compiled."""
    columns = {}
    for name, kind, steps in (("SVI", SVI, 20), ("CompiledSVI", pre.CompiledSVI, 200)):
        runs = {}
        for label, estimator in ESTIMATORS.items():
            pyro.clear_param_store()
            pyro.set_rng_seed(0)
            svi = kind(model, AutoNormal(model), ClippedAdam({"lr": 1e-4}), elbo_of(estimator))
            for _ in range(5):
                svi.step(*data)
            runs[label] = svi, pyro.get_param_store().get_state()
        times: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(args.blocks):
            for label, (svi, state) in runs.items():
                pyro.get_param_store().set_state(state)
                svi.step(*data)
                start = time.process_time()
                for _ in range(steps):
                    svi.step(*data)
                times[label].append((time.process_time() - start) / steps)
        columns[f"{name}, ms"] = pd.Series(times).map(lambda x: 1e3 * pd.Series(x).median())
    return pd.DataFrame(columns)


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    print(gains(logistic, cells(), args).to_markdown(floatfmt=".3g"), "\n")
    if args.data_dir is not None:
        counts = load(args.data_dir, share=1.0)
        print(gains(counts_model, (counts,), args).to_markdown(floatfmt=".3g"), "\n")
    print(seconds(logistic, cells(), args).to_markdown(floatfmt=".3g"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="folder with frisk_with_noise.dat")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=15)
    main(parser.parse_args())
