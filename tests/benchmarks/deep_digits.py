"""Variance of the gradient of two layers of binary latents, early and late in training, on digits.

A sigmoid belief network of sklearn's digits, 64 pixels - 32 - 16 units, and a guide of as many layers,
all linear, trained on binary images that are drawn anew in each step, and frozen. Measured is the
gradient in the guide's weights of one batch, its variance over the squared norm of its mean: by Pyro's
``Trace_ELBO``, and by the unbiased estimators of at most four evaluations; ``LocalExpectation`` is for
reference.

``python -m tests.benchmarks --only deep_digits`` prints both tables;
``python -m tests.benchmarks.deep_digits --tables 0 --draws 500`` the early one of fewer draws.
"""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pyro_reparam_ext as pre

from .timing import Row
from .variances import elbo, relative

BATCH, PIXELS, UNITS, DEEP = 50, 64, 32, 16
PYRO, REFERENCE = "Trace_ELBO", "LocalExpectation"
TABLES = {"early": 300, "late": 5000}
"""Steps of training."""
FEW = 4
"""Evaluations of those that Pyro's is compared with."""


class BeliefNetwork(nn.Module):
    """A sigmoid belief network after some steps, by leave-one-out with four particles."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        pyro.clear_param_store()
        torch.manual_seed(0)
        self.up, self.further_up = nn.Linear(PIXELS, UNITS), nn.Linear(UNITS, DEEP)
        self.further_down, self.down = nn.Linear(DEEP, UNITS), nn.Linear(UNITS, PIXELS)
        self.top = nn.Parameter(torch.zeros(DEEP))
        images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
        elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=4, max_plate_nesting=2)
        svi = SVI(self.model, self.guide, Adam({"lr": 1e-3}), elbo)
        for _ in range(steps):
            svi.step(images[torch.randint(len(images), (BATCH,))].bernoulli())
        self.x = images[:BATCH].bernoulli()
        for part in (self.further_down, self.down):
            part.requires_grad_(False)
        self.top.requires_grad_(False)
        pyro.clear_param_store()

    def model(self, x: Tensor) -> None:
        if self.top.requires_grad:
            pyro.module("down", nn.ModuleList([self.further_down, self.down]))
            pyro.param("top", self.top)
        with pyro.plate("data", len(x)):
            deep = pyro.sample("deep", dist.Bernoulli(logits=self.top.expand(len(x), -1)).to_event(1))
            z = pyro.sample("z", dist.Bernoulli(logits=self.further_down(deep)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.down(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("up", nn.ModuleList([self.up, self.further_up]))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.up(x)).to_event(1))
            pyro.sample("deep", dist.Bernoulli(logits=self.further_up(z)).to_event(1))


def candidates() -> dict[str, Any]:
    """ELBOs by label."""
    one = {
        "ScoreFunction": pre.ScoreFunction(),
        "DisARM": pre.DisARM(),
        "MuProp": pre.MuProp(),
        "DoubleCV": pre.DoubleCV(),
        "RODEO": pre.RODEO(),
        "REBAR": pre.REBAR(),
        REFERENCE: pre.LocalExpectation(),
    }
    found: dict[str, Any] = {label: elbo(estimator) for label, estimator in one.items()}
    for particles in (2, 4):
        found[f"LeaveOneOut-{particles}"] = elbo(pre.LeaveOneOut(), particles)
    return {PYRO: Trace_ELBO(max_plate_nesting=1), **found}


def measured(steps: int, num_draws: int, warmup: int) -> pd.DataFrame:
    """The summary of a study, after some steps of training."""
    network = BeliefNetwork(steps)
    study = pre.gradient_study(
        network.model,
        network.guide,
        network.x,
        estimators=candidates(),
        num_draws=num_draws,
        warmup=warmup,
        reference=REFERENCE,
    )
    return relative(study)


def show(name: str, summary: pd.DataFrame) -> None:
    print(f"two layers of digits, {name}\n{summary.to_string(float_format='%.3g')}")
    ours = summary[summary.unbiased & (summary.evaluations <= FEW)].drop(PYRO, errors="ignore")
    best = ours.relative_variance.idxmin()
    pyros = summary.loc[PYRO]
    ratio, low, high = (
        pyros[one] / ours.loc[best, other]
        for one, other in (("relative_variance",) * 2, ("low", "high"), ("high", "low"))
    )
    print(f"{PYRO} over {best}: {ratio:.0f} ({low:.0f} to {high:.0f})\n", flush=True)


def run(quick: bool = False) -> list[Row]:
    for name, steps in TABLES.items():
        show(name, measured(20, 20, 5) if quick else measured(steps, 2000, 2000))
    return []


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for name in args.tables:
        show(name, measured(TABLES[name], args.draws, args.warmup))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Variance of two layers of digits.")
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=list(TABLES))
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--warmup", type=int, default=2000)
    main(parser.parse_args())
