"""Counts in a guide: Poisson factors of images, by an estimator that is made for counts and by others.

The intensities 0 to 16 of scikit-learn's digits are counts, each image's a sum of a few factors that it
has so many times. Variance and bias of the gradient, training curves, and the factors::

    python examples/poisson_factors.py --compile
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from curves import ended
from datasets import digits
from poisson_factors_figure import draw
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO
from pyro.optim import Adam
from report import Report, progress
from torch import Tensor, nn
from torch.nn.functional import softplus
from training import add_compile, stretches

import pyro_reparam_ext as pre

HIDDEN = 64
LEAST = 1e-3
"""The least rate of a count in the guide."""
PARTS = ("encoder", "factors")


class PoissonFactors(nn.Module):
    """Pixels are Poisson, their rates sums of factors that an image has Poisson times."""

    def __init__(self, mean: Tensor, num_factors: int) -> None:
        super().__init__()
        self.mean, self.num_factors = mean, num_factors
        self.encoder = nn.Sequential(
            nn.Linear(len(mean), HIDDEN), nn.LeakyReLU(0.3), nn.Linear(HIDDEN, num_factors)
        )

    def model(self, x: Tensor) -> None:
        count = self.num_factors
        rate = pyro.param("rate", torch.ones(count), constraint=constraints.positive)
        factors = pyro.param(
            "factors",
            lambda: 2 * torch.rand(count, len(self.mean)) * (self.mean + 0.1) / count,
            constraint=constraints.positive,
        )
        base = pyro.param("base", 0.1 * self.mean + 0.01, constraint=constraints.positive)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Poisson(rate).to_event(1))
            pyro.sample("x", dist.Poisson(z @ factors + base).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", len(x)):
            rate = softplus(self.encoder((x - self.mean) / 4)) + LEAST
            pyro.sample("z", dist.Poisson(rate).to_event(1))


def candidates(num_factors: int) -> dict[str, pre.TraceEstimator_ELBO]:
    """Fresh ELBOs; ``LeaveOneOut`` also with the evaluations that ``MeasureValued`` has."""
    as_many = 1 + num_factors
    made = {
        "ScoreFunction, ema": (pre.ScoreFunction(baseline="ema"), 1),
        "LeaveOneOut, 2 particles": (pre.LeaveOneOut(), 2),
        f"LeaveOneOut, {as_many} particles": (pre.LeaveOneOut(), as_many),
        "MeasureValued": (pre.MeasureValued(), 1),
    }
    return {
        label: pre.TraceEstimator_ELBO({"z": estimator}, num_particles=particles, max_plate_nesting=1)
        for label, (estimator, particles) in made.items()
    }


def mean_elbo(program: PoissonFactors, x: Tensor) -> float:
    """The ELBO per image."""
    elbo = Trace_ELBO(num_particles=30, vectorize_particles=True, max_plate_nesting=1)
    return -elbo.loss(program.model, program.guide, x) / len(x)


class Training:
    """Runs of the same images, by any estimator; the parameter store holds what the last one found."""

    def __init__(self, args: argparse.Namespace) -> None:
        images = digits()
        self.args, self.train, self.test = args, (16 * images.train).round(), (16 * images.test).round()

    def run(self, label: str, seed: int, steps: int) -> tuple[PoissonFactors, pd.DataFrame]:
        """A program that was trained, and its test ELBO by step and by CPU seconds.

        The seed decides on the network's weights, the batches and the draws; factors start alike.
        """
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        program = PoissonFactors(self.train.mean(0), self.args.factors)
        elbo = candidates(self.args.factors)[label]
        svi = self.args.svi(program.model, program.guide, Adam({"lr": self.args.learning_rate}), elbo)
        size = self.args.batch_size
        batches = (self.train[torch.randint(len(self.train), (size,))] for _ in iter(int, 1))
        stops, rows = sorted({round(steps * i / 12) for i in range(13)}), []
        for step, seconds in stretches(svi, stops, batches=batches):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                rows.append((seed, step, seconds, mean_elbo(program, self.test)))
        return program, pd.DataFrame(rows, columns=["seed", "step", "seconds", "elbo"])

    def gradients(self, program: PoissonFactors) -> pd.DataFrame:
        """Variance and bias of one batch's gradient, in the guide's parameters and in the factors.

        The reference is another estimate, of leave-one-out with 64 particles.
        """
        study = pre.gradient_study(
            program.model,
            program.guide,
            self.train[: self.args.batch_size],
            estimators=candidates(self.args.factors),
            reference=pre.TraceEstimator_ELBO(
                {"z": pre.LeaveOneOut()}, num_particles=64, max_plate_nesting=1
            ),
            num_draws=self.args.draws,
            warmup=min(self.args.draws, 200),
        )
        table = study.summary()[["evaluations"]].copy()
        for part in PARTS:
            rows = study.summary(params=lambda name, part=part: name.startswith(part))
            table[f"{part}: variance"] = rows["relative_variance"]
            table[f"{part}: bias"] = rows["relative_bias"]
            table[f"{part}: z of bias"] = rows["bias_z"]
        return table.reset_index(names="estimator")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser)
    parser.add_argument("--factors", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5000, help="optimisation steps")
    parser.add_argument("--runs", type=int, default=3, help="runs of each estimator, by other seeds")
    parser.add_argument("--draws", type=int, default=500, help="gradients per estimator and study")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument(
        "--out", type=Path, default=Path("results/poisson_factors"), help="results folder"
    )
    args = parser.parse_args(argv)
    if args.smoke:
        args.factors, args.steps, args.runs, args.draws = 3, 3, 1, 4
    return args


def main(args: argparse.Namespace) -> None:
    report, training = Report(args.out), Training(args)
    curves, rows = {}, []
    labels = candidates(args.factors)
    for label in progress(labels, "estimators"):
        runs = [training.run(label, seed, args.steps)[1] for seed in range(1, args.runs + 1)]
        curves[label] = pd.concat(runs, ignore_index=True)
        rows.append({"estimator": label, **ended(curves[label])})
    studies = []
    for steps in (max(1, args.steps // 10), args.steps):
        program, _ = training.run("MeasureValued", 1, steps)
        frame = training.gradients(program)
        frame.insert(0, "after", steps)
        studies.append(frame)
    report.table(
        pd.DataFrame(rows),
        f"{args.factors} Poisson factors of digits, after {args.steps:,} steps with batches of "
        f"{args.batch_size}: test ELBO in nats per image, mean (and range) of runs: "
        f"{args.runs}; CPU seconds of one",
    )
    report.table(
        pd.concat(studies),
        f"Gradient of one batch of {args.batch_size} after so many steps by MeasureValued, "
        f"{args.draws} draws: variance over the squared norm of the reference, bias over its norm, "
        f"and the largest z-score of a bias, corrected for the number of parameters",
        "gradients",
    )
    store = pyro.get_param_store()
    rate, factors, base = (store[name].detach() for name in ("rate", "factors", "base"))
    report.picture(draw(curves, rate, factors, base))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parse())
