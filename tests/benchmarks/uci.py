"""Predictions of Bayesian networks on UCI regression sets, against probabilistic back-propagation.

``python -m tests.benchmarks.uci FOLDER`` trains on the 20 splits of every set that lies in FOLDER (as
``examples/uci.py`` reads them), and prints RMSE and test log likelihood in the units of the targets
beside those of Hernández-Lobato and Adams (2015, https://arxiv.org/abs/1502.05336).

One hidden layer of 50 ReLU, mean field, local reparameterisation, KL in closed form; the same settings
for all sets: 2,500 steps of batches of 128, or 75 epochs where those are more. The scale of each
layer's prior and the noise are parameters, so that the training ELBO chooses them. Two schedules:
``plain``, and ``warm-up``, in which the weight of the KL grows to one over the first 60 % of the steps.
``ELBO`` is the true one at the end, and ``chosen`` takes for each split the schedule whose ELBO is
larger; no test target enters before the table is made. ``reached`` compares figures of two decimals.

All splits are trained side by side: a grouped convolution of width one over the examples is a linear
layer for each split.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution, constraints
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor, nn
from tqdm import trange

import pyro_reparam_ext as pre

PROBABILISTIC_BACKPROPAGATION = {
    "yacht": (1.02, -1.63),
    "energy": (1.80, -2.04),
    "concrete": (5.67, -3.16),
    "bostonHousing": (3.01, -2.57),
    "wine-quality-red": (0.64, -0.97),
    "power-plant": (4.12, -2.84),
    "kin8nm": (0.10, 0.90),
}
"""RMSE and test log likelihood."""
SCHEDULES = {"plain": 0.0, "warm-up": 0.6}


class Networks(nn.Module):
    """A Bayesian network for each split, all run at once.

    Features have the shape ``(1, splits * features, examples)``, targets ``(splits, examples)``.
    """

    def __init__(self, splits: int, features: int, examples: int, hidden: int = 50) -> None:
        super().__init__()
        self.splits, self.examples, self.kl_weight = splits, examples, 1.0
        self.network = nn.Sequential(
            nn.Conv1d(splits * features, splits * hidden, 1, groups=splits),
            nn.ReLU(),
            nn.Conv1d(splits * hidden, splits, 1, groups=splits),
        )
        self.bnn = pre.nn.to_bayesian(self.network, self.prior)

    def prior(self, name: str, value: Tensor) -> TorchDistribution:
        """Normal, with a scale for each layer of each split."""
        layer = name.split(".")[0]
        scale = pyro.param(f"prior.{layer}", torch.ones(self.splits), constraint=constraints.positive)
        scale = scale.repeat_interleave(len(value) // self.splits)
        return dist.Normal(0.0, scale.reshape(-1, *[1] * (value.dim() - 1)).expand(value.shape))

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with poutine.scale(scale=self.kl_weight):
            mean = self.bnn(x)[0]
        start = torch.full((self.splits, 1), 0.5)
        noise = pyro.param("noise", start, constraint=constraints.positive)
        with poutine.scale(scale=self.examples / x.shape[-1]):
            pyro.sample("y", dist.Normal(mean, noise).to_event(2), obs=y)
        return mean

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        for name, start in self.network.named_parameters():
            loc = pyro.param(f"loc.{name}", start.detach().clone())
            scale = pyro.param(
                f"scale.{name}",
                torch.full_like(start, 0.03).detach(),
                constraint=constraints.softplus_positive,
            )
            with poutine.scale(scale=self.kl_weight):
                pyro.sample(name, dist.Normal(loc, scale).to_event(start.dim()))


class Sets:
    """The splits of one set, side by side."""

    def __init__(self, splits: list[Any]) -> None:
        self.train_x, self.test_x, self.train_y, test_y, self.loc, self.scale = (
            torch.stack([getattr(split, name) for split in splits])
            for name in ("train_x", "test_x", "train_y", "test_y", "loc", "scale")
        )
        self.loc, self.scale = self.loc[:, None], self.scale[:, None]
        self.test_y = test_y * self.scale + self.loc

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Random examples, others for each split."""
        splits, examples = self.train_y.shape
        if size >= examples:
            return side_by_side(self.train_x), self.train_y
        index = torch.rand(splits, examples).topk(size).indices
        x = self.train_x.take_along_dim(index[..., None], 1)
        return side_by_side(x), self.train_y.take_along_dim(index, 1)


def side_by_side(x: Tensor) -> Tensor:
    """Features ``(splits, examples, features)`` as channels."""
    return x.mT.flatten(0, 1)[None]


def train(data: Sets, warm_up: float, args: argparse.Namespace) -> Networks:
    pyro.clear_param_store()
    pyro.set_rng_seed(args.seed)
    splits, examples, features = data.train_x.shape
    networks = Networks(splits, features, examples)
    steps = max(args.steps, args.epochs * examples // args.batch_size)
    decay = 0.05 ** (1 / steps)
    optimiser = ClippedAdam({"lr": 0.01, "lrd": decay, "clip_norm": math.inf})
    svi = SVI(networks.model, networks.guide, optimiser, TraceMeanField_ELBO())
    with pre.nn.local_reparameterization():
        for step in trange(steps, disable=not sys.stderr.isatty()):
            if warm_up:
                networks.kl_weight = min(1.0, (step + 1) / (warm_up * steps))
            svi.step(*data.batch(args.batch_size))
    return networks


@torch.no_grad()
def evaluate(data: Sets, networks: Networks, draws: int) -> pd.DataFrame:
    """ELBO, RMSE and log likelihood of each split, by draws of the weights."""

    def predictions(x: Tensor, draws: int) -> TorchDistribution:
        x = side_by_side(x)
        means = []
        for _ in range(draws):
            weights = poutine.trace(networks.guide).get_trace(x)
            means.append(poutine.replay(networks.model, weights)(x))
        return dist.Normal(torch.stack(means), pyro.param("noise"))

    test = predictions(data.test_x, draws)
    test = dist.Normal(test.loc * data.scale + data.loc, test.scale * data.scale)
    errors = test.loc.mean(0) - data.test_y
    log_likelihood = test.log_prob(data.test_y).logsumexp(0) - math.log(draws)
    expected = predictions(data.train_x, draws // 5).log_prob(data.train_y).mean(0).sum(-1)
    return pd.DataFrame(
        {
            "ELBO": expected - divergence(networks),
            "RMSE": errors.square().mean(-1).sqrt(),
            "log likelihood": log_likelihood.mean(-1),
        }
    )


def divergence(networks: Networks) -> Tensor:
    """From the guide to the prior, of each split."""
    total = torch.zeros(networks.splits)
    for name, value in networks.network.named_parameters():
        guide = dist.Normal(pyro.param(f"loc.{name}"), pyro.param(f"scale.{name}"))
        kl = torch.distributions.kl_divergence(guide, networks.prior(name, value))
        total = total + kl.reshape(networks.splits, -1).sum(-1)
    return total


def run(name: str, splits: list[Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each schedule, and for the one that the ELBO chooses."""
    data, results, seconds = Sets(splits), {}, {}
    for label, warm_up in SCHEDULES.items():
        start = time.process_time()
        results[label] = evaluate(data, train(data, warm_up, args), args.draws)
        seconds[label] = time.process_time() - start
    both = pd.concat(results, names=["schedule", "split"])
    chosen = both.loc[both.groupby("split")["ELBO"].idxmax()]
    print(f"{name}: the ELBO chooses {chosen.index.get_level_values(0).value_counts().to_dict()}")
    results["chosen"], seconds["chosen"] = chosen, sum(seconds.values())
    rmse, log_likelihood = PROBABILISTIC_BACKPROPAGATION[name]
    return [
        {
            "set": name,
            "schedule": label,
            "splits": len(frame),
            "ELBO": frame["ELBO"].mean(),
            "RMSE": frame["RMSE"].mean(),
            "± ": frame["RMSE"].sem(),
            "target": rmse,
            "log likelihood": frame["log likelihood"].mean(),
            "±": frame["log likelihood"].sem(),
            "target ": log_likelihood,
            "reached": bool(
                round(frame["RMSE"].mean(), 2) <= rmse
                and round(frame["log likelihood"].mean(), 2) >= log_likelihood
            ),
            "CPU s": seconds[label],
        }
        for label, frame in results.items()
    ]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    folder = os.environ.get("UCI_DATA_DIR")
    parser.add_argument("folder", type=Path, nargs="?", default=folder, help="default: $UCI_DATA_DIR")
    parser.add_argument("--sets", nargs="+", choices=PROBABILISTIC_BACKPROPAGATION)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2500, help="at least so many")
    parser.add_argument("--epochs", type=int, default=75, help="at least so many")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--draws", type=int, default=300, help="of the weights, for predictions")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if args.folder is None or not Path(args.folder).is_dir():
        print(f"skipped: no folder with UCI sets, was given {args.folder}")
        return
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    from uci import load

    rows = []
    for name in args.sets or PROBABILISTIC_BACKPROPAGATION:
        if (Path(args.folder) / name).is_dir():
            rows += run(name, list(map(partial(load, args.folder, name), range(args.splits))), args)
            print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3f"), flush=True)
        else:
            print(f"{name}: skipped, {args.folder} has no such set")


if __name__ == "__main__":
    main(parse())
