"""Calibrated forecasts of digits: a Bayesian network by one call, and what that call says of itself.

The network of 64, 50 and 10 units is fitted by ``pre.fit`` in batches, predicts by ``pre.nn.predict``,
and is scored beside the same network with certain weights; what NUTS would take is measured::

    python examples/digits_calibrated.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import torch
from bnn_models import PREDICTIVE_DRAWS, Classification
from matplotlib.figure import Figure
from pyro.infer import NUTS
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam
from report import Report
from style import BLACK, GREEN, ORANGE
from torch.utils.data import DataLoader, TensorDataset
from training import add_compile

import pyro_reparam_ext as pre

WEIGHTS = (1.0, 0.1)
"""Of the divergence: the ELBO, and a posterior that is colder."""
DEEPEST = 2**10 - 1
"""Gradients of one draw by NUTS, at most: a tree of Pyro's default depth."""


def fitted(problem: Classification, args: argparse.Namespace) -> tuple[AutoNormal, pre.Fit]:
    """A mean-field guide, by batches and with noise of its own for each example."""
    pyro.set_rng_seed(args.seed)
    guide = problem.make_guide()
    data = TensorDataset(problem.x, problem.y)
    with problem.context(pre.nn.local_reparameterization)():
        fit = pre.fit(
            problem.model,
            guide,
            batches=DataLoader(data, args.batch_size, shuffle=True, drop_last=True),
            estimators=pre.Pathwise(),
            optim=Adam({"lr": args.learning_rate}),
            num_steps=args.steps,
            until=pre.LossConverged(),
            max_plate_nesting=1,
            compiled=args.svi is pre.CompiledSVI,
        )
    return guide, fit


def seconds_of_nuts(problem: Classification, gradients: int = 10) -> float:
    """CPU seconds of one gradient of the log posterior, of which NUTS takes many for each draw."""
    kernel = NUTS(problem.model)
    kernel.setup(0, problem.x, problem.y)
    weights = {k: v.clone().requires_grad_() for k, v in problem.bnn.initial_values().items()}
    start = time.process_time()
    for _ in range(gradients):
        torch.autograd.grad(kernel.potential_fn(weights), list(weights.values()))
    return (time.process_time() - start) / gradients


def reliability(problem: Classification, prediction: pre.nn.Prediction) -> pd.DataFrame:
    """Stated probability of the digit that is named, and the share that is right, in ten bins."""
    stated, named = prediction.probabilities.max(-1)
    right = (named == problem.test_y).float()
    bins = stated.argsort().tensor_split(10)
    rows = [(stated[b].mean().item(), right[b].mean().item()) for b in bins]
    return pd.DataFrame(rows, columns=["stated", "right"])


def draw(curves: dict[float, pd.DataFrame], informed: pd.DataFrame) -> Figure:
    """Reliability for each weight of the divergence, and the information of right and wrong ones."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.axline((0, 0), slope=1, color="grey", linestyle=":")
    for (weight, curve), colour in zip(curves.items(), (ORANGE, GREEN), strict=True):
        left.plot(curve["stated"], curve["right"], "o-", color=colour, label=f"KL weight {weight:g}")
    left.set(xlabel="stated probability of the digit", ylabel="share that is right", ylim=(0, 1.03))
    left.set_title("Reliability on test images")
    left.legend()
    groups = {"right": informed[informed["right"]], "wrong": informed[~informed["right"]]}
    named = [f"{name}: {len(rows)}" for name, rows in groups.items()]
    values = [rows["mutual information"] for rows in groups.values()]
    right.boxplot(values, tick_labels=named, medianprops={"color": BLACK})
    right.set(ylabel="mutual information of class and weights, nats")
    right.set_title(f"What it does not know (KL weight {WEIGHTS[-1]:g})")
    return figure


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser)
    parser.add_argument("--hidden", type=int, default=50, help="hidden units")
    parser.add_argument("--steps", type=int, default=3000, help="of each fit, at most")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--checked", type=int, default=500, help="draws that check the guide")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument(
        "--out", type=Path, default=Path("results/digits_calibrated"), help="results folder"
    )
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.checked, args.hidden = 4, 100, 5
    return args


def main(args: argparse.Namespace) -> None:
    report, rows, curves = Report(args.out), [], {}
    for weight in WEIGHTS:
        torch.manual_seed(args.seed)
        problem = Classification(0, args.hidden, kl_weight=weight)
        start = time.process_time()
        guide, fit = fitted(problem, args)
        seconds = time.process_time() - start
        print(fit)
        # Of all data, outside of the contexts: weights are those of the posterior itself.
        check = pre.check_guide(
            problem.model, guide, problem.x, problem.y, num_samples=args.checked, max_plate_nesting=1
        )
        torch.manual_seed(args.seed)
        prediction = pre.nn.predict(problem.bnn, guide, problem.test_x, PREDICTIVE_DRAWS)
        curves[weight] = reliability(problem, prediction)
        information = prediction.mutual_information
        scores = problem.scores_of(prediction.probabilities)
        rows.append(
            {"network": f"Bayesian, KL weight {weight:g}"}
            | scores
            | {"mutual information": information.mean().item()}
            | {"steps": len(fit.losses), "CPU s": seconds, "converged": fit.run.converged}
            | {"k-hat": check.khat, "says": check.advice}
        )
    right = prediction.probabilities.argmax(-1) == problem.test_y
    start = time.process_time()
    scores = problem.plain(args.steps, args.learning_rate, args.batch_size)
    seconds = time.process_time() - start
    rows.append({"network": "certain weights"} | scores | {"steps": args.steps, "CPU s": seconds})
    report.table(
        pd.DataFrame(rows),
        f"A network of {args.hidden} hidden units on digits: log likelihood in nats per test image, "
        f"expected calibration error in 15 bins, and what check_guide says by {args.checked} draws",
    )
    each = seconds_of_nuts(problem)
    print(f"NUTS: {1000 * each:.1f} ms a gradient, up to {each * DEEPEST:.1f} s a draw")
    informed = pd.DataFrame({"right": right, "mutual information": information})
    report.picture(draw(curves, informed))


if __name__ == "__main__":
    main(parse())
