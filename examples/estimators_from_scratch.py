"""The gradient of an expectation from first principles, and the same numbers by Pyro programs.

How does an expected cost change with the parameters of its law, where sampling blocks the gradient?
Every estimator is written out in plain torch, has its mean and its variance in closed form (or by
enumeration or quadrature), and is measured by ``gradient_study`` on a Pyro model and guide as well::

    python examples/estimators_from_scratch.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import torch
from estimators_from_scratch_figure import picture, slopes, tables
from expectations import Bernoulli, Expectation, Gaussian, binary, fixed_law, p_value, square, wave
from report import Report, progress
from torch import Tensor, nn
from training import add_compile

import pyro_reparam_ext as pre

Cost = Callable[[Tensor], Tensor]
Law = Gaussian | Bernoulli


def derivative_inside(f: Cost, law: Law) -> Tensor:
    """What plain autograd sees: only the parameters of the cost itself."""
    return f(law.sample())


def score_function(f: Cost, law: Law, baseline: float = 0.0) -> Tensor:
    """Its gradient is (f - baseline) times the gradient of the log density."""
    x = law.sample()
    return (f(x) - baseline).detach() * law.log_prob(x)


def leave_one_out(f: Cost, law: Law) -> Tensor:
    """Of two samples each has the cost of the other as baseline."""
    x, y = law.sample(), law.sample()
    return (f(x) - f(y)).detach() * (law.log_prob(x) - law.log_prob(y)) / 2


def pathwise(f: Cost, law: Gaussian) -> Tensor:
    """The sample is a function of the parameters and of noise that does not depend on them."""
    return f(law.rsample())


def enumeration(f: Cost, law: Bernoulli) -> Tensor:
    """The expectation itself."""
    p = law.probability
    return p * f(torch.ones_like(p)) + (1 - p) * f(torch.zeros_like(p))


def straight_through(f: Cost, law: Bernoulli) -> Tensor:
    """The value of a sample, the gradient of the probability."""
    p = law.probability
    return f(law.sample() + p - p.detach())


def gumbel_softmax(f: Cost, law: Bernoulli, temperature: float) -> Tensor:
    """The cost of a smooth function of noise, which is nearly 0 or 1 where it is cold."""
    noise = torch.rand_like(law.logit).logit(eps=1e-12)  # logistic: two Gumbels' difference
    return f(((law.logit + noise) / temperature).sigmoid())


def gradients(expectation: Expectation, loss: Callable[[Cost, Law], Tensor], draws: int) -> Tensor:
    """Independent gradients, ``(draws, parameters)``: each draw has its own copy of the parameters."""
    copies = [torch.full((draws,), v, dtype=torch.double) for v in expectation.at.values()]
    copies = [copy.requires_grad_() for copy in copies]
    losses = loss(lambda x: expectation.cost(x, *copies), expectation.law(*copies))
    return torch.stack(torch.autograd.grad(losses.sum(), copies), -1)


class Constant(nn.Module):
    """A baseline that is known."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value, dtype=torch.double))

    def forward(self) -> Tensor:
        return self.value


@dataclass(frozen=True)
class Both:
    """An estimator from scratch, the package's, and the samples that one gradient takes."""

    loss: Callable[[Cost, Law], Tensor]
    package: pre.estimators.Estimator
    samples: int = 1


def estimators(expectation: Expectation) -> dict[str, Both]:
    """Those that serve this expectation, by label."""
    mean = expectation.mean
    everything = {
        "derivative inside": Both(derivative_inside, pre.ScoreFunction()),
        "score function": Both(score_function, pre.ScoreFunction()),
        "baseline E[f]": Both(
            partial(score_function, baseline=mean), pre.ScoreFunction(Constant(mean))
        ),
        "leave-one-out, 2 samples": Both(leave_one_out, pre.LeaveOneOut(), samples=2),
        "pathwise": Both(pathwise, pre.Pathwise()),
        "enumeration": Both(enumeration, pre.Enumeration()),
        "straight-through": Both(straight_through, pre.StraightThrough()),
    }
    for t in (1.0, 0.1):
        everything[f"Gumbel-Softmax, T = {t:g}"] = Both(
            partial(gumbel_softmax, temperature=t), pre.GumbelSoftmax(t, score="discrete")
        )
    return {label: everything[label] for label in expectation.truths}


def program(expectation: Expectation, moving: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """A model and a guide whose loss is the expected cost: prior and guide are equal.

    Along a path the prior has to move with the guide to cancel it; a score function leaves out the
    gradient of the guide's log density at a fixed value, of mean zero, so there the prior stands still.
    """

    def parameters() -> list[Tensor]:
        return [
            pyro.param(name, torch.tensor(value, dtype=torch.double))
            for name, value in expectation.at.items()
        ]

    def model() -> None:
        prior = parameters() if moving else [p.detach() for p in parameters()]
        x = pyro.sample("x", expectation.pyro_law(*prior))
        pyro.factor("cost", -expectation.cost(x, *parameters()))

    def guide() -> None:
        pyro.sample("x", expectation.pyro_law(*parameters()))

    return model, guide


def by_pyro(expectation: Expectation, draws: int, seed: int) -> dict[str, Tensor]:
    """The gradients of that program by the package's estimators."""
    (model, guide), (moving, _) = program(expectation, False), program(expectation, True)
    variants = {
        label: pre.Variant(both.package, model=moving if label == "pathwise" else model)
        for label, both in estimators(expectation).items()
    }
    study = pre.gradient_study(
        model, guide, estimators=variants, num_draws=draws, seed=seed, progress=False
    )
    kept = study.to_inferencedata().gradients
    return {
        label: torch.from_numpy(
            np.stack([kept[name].sel(estimator=label).values[0] for name in expectation.at], -1)
        )
        for label in variants
    }


def measure(expectation: Expectation, draws: int, seed: int) -> pd.DataFrame:
    """Mean and variance of every estimator, from scratch and by the package, against the truth."""
    rows, package = [], by_pyro(expectation, draws, seed)
    for label, both in estimators(expectation).items():
        truth, scratch = expectation.truths[label], gradients(expectation, both.loss, draws)
        for i, parameter in enumerate(expectation.at):
            mean, variance = truth.mean[i], truth.variance[i]
            row = {
                "expectation": expectation.name,
                "estimator": label,
                "d/d": parameter,
                "exact gradient": expectation.gradient[i],
                "its mean": mean,
                "its variance": variance,
            }
            for source, values in (("from scratch", scratch[:, i]), ("package", package[label][:, i])):
                row[f"{source}: mean"] = values.mean().item()
                spread = (values - values[0]).var().item()  # zero, not rounding, without variance
                row[f"{source}: error"] = math.sqrt(spread / draws)
                row[f"{source}: variance"] = spread
                row[f"{source}: p of mean"] = p_value(values, mean)
                row[f"{source}: p of variance"] = p_value((values - mean) ** 2, variance)
            rows.append(row)
    return pd.DataFrame(rows)


def convergence(expectation: Expectation, sizes: list[int], repetitions: int) -> pd.DataFrame:
    """The root mean squared error of an average of gradients, against the samples that it took."""
    rows = []
    for label, both in estimators(expectation).items():
        truth = expectation.truths[label]
        if truth.variance[0] == 0:
            continue
        for size in progress(sizes, f"{expectation.name}: {label}"):
            count = size // both.samples
            draws = gradients(expectation, both.loss, count * repetitions)[:, 0]
            errors = draws.view(repetitions, count).mean(1) - expectation.gradient[0]
            bias = truth.mean[0] - expectation.gradient[0]
            rows.append(
                {
                    "expectation": expectation.name,
                    "estimator": label,
                    "samples": size,
                    "error": errors.square().mean().sqrt().item(),
                    "expected": math.sqrt(bias**2 + truth.variance[0] / count),
                    "bias": abs(bias),
                }
            )
    return pd.DataFrame(rows)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser, "as for all examples; nothing is trained in this one, which is said")
    parser.add_argument("--draws", type=int, default=200_000, help="gradients by each estimator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/estimators_from_scratch"))
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if args.svi is pre.CompiledSVI:
        print("--compile: nothing is trained here, so that there is no step to compile.")
    pyro.set_rng_seed(args.seed)
    draws, repetitions = (2000, 20) if args.smoke else (args.draws, 400)
    steps, sizes = (
        ([1.0, 4.0], [2, 20]) if args.smoke else ([0.25, 0.5, 1, 2, 4, 8], [2, 20, 200, 2000])
    )
    cases = [fixed_law(2.0), square(2.0, 1.0), wave(0.5, 5.0), binary(1.0)]
    measured = pd.concat([measure(case, draws, args.seed) for case in cases], ignore_index=True)
    curves = pd.concat([convergence(case, sizes, repetitions) for case in (cases[1], cases[3])])
    along = {
        "theta": [(t, measure(square(t, 1.0), draws // 4, args.seed)) for t in (0.0, 1.0, 2.0, 4.0)],
        "k": [(k, measure(wave(0.5, k), draws // 4, args.seed)) for k in steps],
    }
    report = Report(args.out)
    for name, (frame, title) in tables(measured).items():
        report.table(frame, title, name)
    report.table(slopes(curves), "Error of an average of gradients", "convergence")
    report.save("measured.csv", lambda path: measured.to_csv(path, index=False))
    report.picture(picture(measured, curves, along))


if __name__ == "__main__":
    main(parse())
