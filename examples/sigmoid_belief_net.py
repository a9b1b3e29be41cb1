"""Sigmoid belief nets: by which estimator does the training ELBO rise fastest, in steps and in seconds?

One or two layers of binary units under the digits of scikit-learn or, with ``--data-dir``, of MNIST::

    python examples/sigmoid_belief_net.py --compile
    python examples/sigmoid_belief_net.py --compile --data-dir FOLDER --layers 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import torch
from curves import draw_curves, ended
from datasets import Images, load
from pyro.infer import Trace_ELBO
from pyro.optim import Adam
from report import Report, progress
from sigmoid_belief_net_candidates import CANDIDATES, FEW, evaluations, make_elbo
from sigmoid_belief_net_models import CONNECTIONS, BeliefNet
from torch import Tensor
from training import add_compile, stretches

UNITS = {"digits": 50, "mnist": 200}
LOOKED_AT = 10_000
"""Training images whose ELBO is followed."""


def binary(images: Images) -> Tensor:
    """The training images, each pixel 1 where it is brighter than half: the same in every step."""
    return (images.train > 0.5).float()


def mean_elbo(net: BeliefNet, x: Tensor) -> float:
    """The ELBO per training image, always at binary units."""
    x = x[:LOOKED_AT]
    particles = max(1, LOOKED_AT // len(x))
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    return -sum(elbo.loss(net.model, net.guide, part) for part in x.split(1000)) / len(x)


def train(label: str, x: Tensor, args: argparse.Namespace, seed: int) -> pd.DataFrame:
    """The training ELBO by step and by CPU seconds, from the initial weights of the seed."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    connection = CONNECTIONS[args.kind]
    net = BeliefNet(x.mean(0), units=args.units, layers=args.layers, connection=connection)
    svi = args.svi(net.model, net.guide, Adam({"lr": args.learning_rate}), make_elbo(label))
    batches = (x[torch.randint(len(x), (args.batch_size,))] for _ in iter(int, 1))
    stops = sorted({round(args.steps * i / 12) for i in range(13)})
    rows = []
    for step, seconds in stretches(svi, stops, batches=batches):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            rows.append((seed, step, seconds, mean_elbo(net, x)))
    return pd.DataFrame(rows, columns=["seed", "step", "seconds", "elbo"])


def row(label: str, curve: pd.DataFrame, args: argparse.Namespace) -> dict[str, object]:
    return {
        "estimator": label,
        "evaluations": evaluations(label, args.units, args.layers),
        **ended(curve),
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser)
    parser.add_argument("--layers", type=int, choices=(1, 2), default=1, help="of binary units")
    parser.add_argument("--kind", choices=CONNECTIONS, default="linear", help="between layers")
    parser.add_argument("--units", type=int, help=f"in a layer (default: {UNITS})")
    parser.add_argument(
        "--estimators", nargs="+", choices=CANDIDATES, metavar="LABEL", help=", ".join(CANDIDATES)
    )
    parser.add_argument("--data-dir", type=Path, help="MNIST's IDX files (default: digits)")
    parser.add_argument("--steps", type=int, default=5000, help="optimisation steps")
    parser.add_argument("--runs", type=int, default=3, help="runs of each estimator, by other seeds")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument(
        "--out", type=Path, default=Path("results/sigmoid_belief_net"), help="results folder"
    )
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.runs, args.units = 3, 1, 6
        args.estimators = args.estimators or FEW
    return args


def main(args: argparse.Namespace) -> None:
    images, report = load(args.data_dir), Report(args.out)
    x = binary(images)
    args.units = args.units or UNITS[images.name]
    labels = args.estimators or (CANDIDATES if args.data_dir is None else FEW)
    curves = {}
    for label in progress(labels, "estimators"):
        runs = [train(label, x, args, seed) for seed in range(1, args.runs + 1)]
        curves[label] = pd.concat(runs, ignore_index=True)
    layers = "one layer" if args.layers == 1 else f"{args.layers} layers"
    title = f"{args.kind.capitalize()} belief nets with {layers} of {args.units} units on {images.name}"
    name = f"{images.name}_{args.layers}_{args.kind}"
    report.table(
        pd.DataFrame([row(label, curve, args) for label, curve in curves.items()]),
        f"{title}, after {args.steps:,} steps with batches of {args.batch_size}: training ELBO in "
        f"nats per image, mean (and range) of runs: {args.runs}; CPU seconds of one",
        name,
    )
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    draw_curves(panels, curves, "training ELBO")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title)
    report.picture(figure, name)
    every = pd.concat(curves, names=["estimator", "row"]).reset_index("estimator")
    report.save(f"{name}_curves.csv", lambda path: every.to_csv(path, index=False))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parse())
