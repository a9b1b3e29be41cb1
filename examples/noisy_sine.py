"""A network that puts out a mean and a scale, fitted to a noisy sine: which input, and which loss?

The input is 0 to 6 pi as it is, scaled to 0 to 1, or standardised; with or without ``BatchNorm1d``;
trained by the likelihood of the data under the distribution that the network puts out, or by the
squared error of its sample::

    python examples/noisy_sine.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from noisy_sine_figures import curves_figure, fits_figure
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from report import Report, progress
from torch import Tensor, nn
from training import add_compile, stretches

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import GaussianLinear

END = 6 * math.pi
BATCH = 64
INPUTS = {"0 to 6π": (0.0, 1.0), "0 to 1": (0.0, END), "standardised": (END / 2, END / math.sqrt(12))}
"""Name -> what is subtracted from x, and what the difference is divided by."""
SQUARED_ERROR = math.sqrt(0.5)
"""The scale at which a normal log density is minus a squared error, up to a constant."""


def noise_scale(x: Tensor) -> Tensor:
    return 0.05 + 0.35 * x / END


def data(size: int) -> tuple[Tensor, Tensor]:
    x = END * torch.rand(size, 1)
    return x, x.sin() + noise_scale(x) * torch.randn(size, 1)


class Network(nn.Module):
    """Two hidden layers, and a layer that puts out a location and a scale, and samples."""

    def __init__(self, scaling: str, batch_norm: bool, hidden: int = 64) -> None:
        super().__init__()
        self.offset, self.unit = INPUTS[scaling]
        layers = []
        for size in (1, hidden):
            layers += [nn.Linear(size, hidden)]
            layers += [nn.BatchNorm1d(hidden)] if batch_norm else []
            layers += [nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = GaussianLinear(hidden, 1)

    def features(self, x: Tensor) -> Tensor:
        return self.body((x - self.offset) / self.unit)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def distribution(self, x: Tensor) -> dist.Independent:
        return self.head.distribution(self.features(x))


class Programs:
    """The losses of a network, as Pyro programs of x and y."""

    def __init__(self, net: Network) -> None:
        self.net = net

    def likelihood(self, x: Tensor, y: Tensor) -> None:
        """The distribution scores the data."""
        pyro.module("net", self.net)
        with pyro.plate("points", len(x)):
            pyro.sample("y", self.net.distribution(x), obs=y)

    def error_of_sample(self, x: Tensor, y: Tensor) -> None:
        """The squared error of a sample: the same expectation as ``through_site``."""
        pyro.module("net", self.net)
        with pyro.plate("points", len(x)):
            pyro.sample("y", dist.Normal(self.net(x), SQUARED_ERROR).to_event(1), obs=y)

    def through_site(self, x: Tensor, y: Tensor) -> None:
        """The sample is a site, whose guide is its prior: no divergence, any estimator."""
        pyro.module("net", self.net)
        with pyro.plate("points", len(x)):
            z = pyro.sample("z", self.net.distribution(x))
            pyro.sample("y", dist.Normal(z, SQUARED_ERROR).to_event(1), obs=y)

    def prior_as_guide(self, x: Tensor, y: Tensor) -> None:
        pyro.module("net", self.net)
        with pyro.plate("points", len(x)):
            pyro.sample("z", self.net.distribution(x))

    def expected_error(self, x: Tensor, y: Tensor) -> None:
        """What the two above have as expectation, in closed form."""
        pyro.module("net", self.net)
        fn = self.net.distribution(x)
        with pyro.plate("points", len(x)):
            pyro.factor("y", -((y - fn.mean).square() + fn.variance).sum(-1))

    def no_guide(self, x: Tensor, y: Tensor) -> None:
        pass


LOSSES = {"likelihood": "likelihood", "error of the sample": "error_of_sample"}
"""Name -> the program that has it."""
CELLS = [(scaling, batch_norm) for batch_norm, scaling in product((False, True), INPUTS)]
"""The input, and whether there is batch normalisation."""


def cell_name(scaling: str, batch_norm: bool) -> str:
    return f"{scaling}{', BatchNorm' if batch_norm else ''}"


@torch.no_grad()
def quality(net: Network, x: Tensor, y: Tensor) -> dict[str, float]:
    """Of the predictions by running statistics, on data not trained on."""
    fn = deepcopy(net).eval().distribution(x)
    rmse = (fn.mean - x.sin()).square().mean().sqrt()
    ratio = (fn.stddev / noise_scale(x)).median()
    # A mean over all points of numbers that reach 1e5, where the scale has collapsed.
    nll = -fn.log_prob(y).double().mean()
    return {"rmse": rmse.item(), "nll": nll.item(), "scale_ratio": ratio.item()}


def batches(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """That many points each, without end."""
    while True:
        chosen = torch.randperm(len(x))[:size]
        yield x[chosen], y[chosen]


def fit(
    net: Network,
    loss: str,
    train: tuple[Tensor, Tensor],
    steps: int,
    rate: float,
    size: int = BATCH,
    svi: type[SVI] = SVI,
) -> pd.DataFrame:
    """Trains by SVI on minibatches of that size; the quality along the way."""
    pyro.clear_param_store()
    programs, test = Programs(net), data(1000)
    # A rate that falls to a twentieth: else the last steps still move the fit about.
    optim = ClippedAdam({"lr": rate, "lrd": 0.05 ** (1 / steps), "clip_norm": math.inf})
    trainer = svi(getattr(programs, LOSSES[loss]), programs.no_guide, optim, Trace_ELBO())
    stops = sorted({*range(0, steps, max(1, steps // 25)), steps})
    points = stretches(trainer, stops, batches=batches(*train, size))
    return pd.DataFrame([{"step": step, **quality(net, *test)} for step, _ in points])


@torch.no_grad()
def in_training(net: Network, x: Tensor, size: int = BATCH, draws: int = 100) -> dict[str, float]:
    """Of the predicted mean where a minibatch gives the statistics: its deviation, and its error."""
    net, probe = deepcopy(net).train(), torch.linspace(0, END, 4).unsqueeze(-1)
    batches = [torch.cat([probe, x[torch.randperm(len(x))[len(probe) : size]]]) for _ in range(draws)]
    means = torch.stack([net.distribution(batch).mean for batch in batches])
    error = (means - torch.stack(batches).sin())[:, len(probe) :].square().mean().sqrt()
    jitter = means[:, : len(probe)].std(0).mean()
    return {"jitter": jitter.item(), "rmse_in_training": error.item()}


def gradients(net: Network, x: Tensor, y: Tensor, draws: int, seed: int) -> pd.DataFrame:
    """Variance and bias of the last layer's gradient of the error of the sample."""
    pyro.clear_param_store()
    programs = Programs(deepcopy(net).eval())
    study = pre.gradient_study(
        programs.through_site,
        programs.prior_as_guide,
        x,
        y,
        estimators={
            "Pathwise": pre.Pathwise(),
            "ScoreFunction": pre.ScoreFunction(baseline="ema"),
            "closed form": pre.Variant(model=programs.expected_error, guide=programs.no_guide),
        },
        reference="closed form",
        params=lambda name: "head" in name,
        num_draws=draws,
        warmup=min(draws, 50),
        seed=seed,
    )
    columns = ["relative_variance", "relative_bias", "bias_z"]
    return study.summary()[columns].drop("closed form").reset_index(names="estimator")


@torch.no_grad()
def predictions(net: Network) -> pd.DataFrame:
    """What the network says of y along x, and what is true."""
    x = torch.linspace(0, END, 300).unsqueeze(-1)
    fn = deepcopy(net).eval().distribution(x)
    columns = {"x": x, "true": x.sin(), "noise": noise_scale(x), "mean": fn.mean, "scale": fn.stddev}
    return pd.DataFrame({name: column.squeeze(-1).numpy() for name, column in columns.items()})


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser)
    parser.add_argument("--steps", type=int, default=1500, help="optimisation steps of each run")
    parser.add_argument("--runs", type=int, default=3, help="networks per row of the table")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--draws", type=int, default=500, help="gradients per estimator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/noisy_sine"), help="results folder")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    steps, runs, draws = (2, 1, 4) if args.smoke else (args.steps, args.runs, args.draws)
    report = Report(args.out)
    pyro.set_rng_seed(args.seed)
    x, y = data(500)
    rows, curves, fits, studies = [], [], [], []
    jobs = [(loss, cell, BATCH) for loss in LOSSES for cell in CELLS]
    # What the noise of a minibatch does is seen where there is none.
    jobs += [("likelihood", ("standardised", batch_norm), len(x)) for batch_norm in (False, True)]
    for (loss, cell, size), run in progress(list(product(jobs, range(runs))), "networks"):
        pyro.set_rng_seed(args.seed + 1 + run)
        net = Network(*cell)
        curve = fit(net, loss, (x, y), steps, args.learning_rate, size, args.svi)
        about = {"loss": loss, "network": cell_name(*cell), "batch": size}
        last = curve.iloc[-1].drop("step").to_dict()
        rows.append({**about, **last, **in_training(net, x, size)})
        if size != BATCH:
            continue
        about = {"loss": loss, "input": cell[0], "batch_norm": cell[1]}
        curves.append(curve.assign(**about, run=run))
        if run == 0:
            fits.append(predictions(net).assign(**about))
            if loss == "likelihood":
                studied = gradients(net, x, y, draws, args.seed)
                studied.insert(0, "network", cell_name(*cell))
                studies.append(studied)

    by_network = pd.DataFrame(rows).groupby(["loss", "network", "batch"], sort=False)
    table = by_network.median().join(by_network["rmse"].agg(["min", "max"]).add_prefix("rmse_"))
    report.table(
        table.reset_index(), f"Median of {runs} networks of each kind, after {steps} steps, on new data"
    )
    title = f"The last layer's gradient of the error of the sample, after the likelihood, {draws} draws"
    report.table(pd.concat(studies, ignore_index=True), title, "gradients")
    points = pd.DataFrame({"x": x.squeeze(-1).numpy(), "y": y.squeeze(-1).numpy()})
    report.picture(fits_figure(pd.concat(fits, ignore_index=True), points))
    report.picture(curves_figure(pd.concat(curves, ignore_index=True)), "curves")


if __name__ == "__main__":
    main(parse())
