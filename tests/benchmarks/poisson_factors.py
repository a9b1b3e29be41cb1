"""Variance of a vector of counts in a guide: ``MeasureValued`` beside ``LeaveOneOut``.

A factor model: ten images of 40 counts, each the sum of 20 factors with Poisson weights, ``x ~
Poisson(z @ W + 0.1)``, ``z ~ Poisson(20)``, with fixed factors ``W`` that overlap, so that the
coordinates of ``z`` are coupled by all the data. The guide has a rate for each weight of each image.
Measured is the gradient in the logarithms of these rates, from rates of 10 and after training, its
variance over the squared norm of its mean; at equal evaluations, 21 for one of ``MeasureValued``.

The ratio of the two variances is about ``E[d ** 2] / Var[d]`` of the differences of costs
``d = f(z + e) - f(z)``, whatever the number of coordinates: large where costs are nearly linear, or
training is far from its end, and about one at the optimum, where ``E[d]`` is zero.

``python -m tests.benchmarks --only poisson_factors`` prints both tables.
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
from torch import Tensor

import pyro_reparam_ext as pre

from .timing import Row
from .variances import elbo, relative

IMAGES, PIXELS, FACTORS = 10, 40, 20
MEASURE, EQUAL = "MeasureValued", f"LeaveOneOut-{1 + FACTORS}"
TABLES = {"early": 0, "late": 2000}
"""Steps of training."""
PRIOR, START = 20.0, 10.0
"""Rates of the prior, and of the guide before training."""


class Factors:
    """The model, and its guide after some steps by ``MeasureValued``."""

    def __init__(self, steps: int) -> None:
        pyro.clear_param_store()
        torch.manual_seed(0)
        self.weights = 0.1 * dist.Gamma(0.5, 1.0).sample((FACTORS, PIXELS))
        z = dist.Poisson(PRIOR).sample((IMAGES, FACTORS))
        self.x = dist.Poisson(z @ self.weights + 0.1).sample()
        self.rates = torch.full((IMAGES, FACTORS), START)
        elbo = pre.TraceEstimator_ELBO(pre.MeasureValued(), max_plate_nesting=1)
        svi = SVI(self.model, self.guide, Adam({"lr": 0.02}), elbo)
        for _ in range(steps):
            svi.step(self.x)
        if steps:
            self.rates = pyro.param("rates").detach().clone()
        pyro.clear_param_store()

    def model(self, x: Tensor) -> None:
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Poisson(torch.full((len(x), FACTORS), PRIOR)).to_event(1))
            pyro.sample("x", dist.Poisson(z @ self.weights + 0.1).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        rates = pyro.param("rates", self.rates.clone(), constraint=dist.constraints.positive)
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Poisson(rates).to_event(1))


def candidates() -> dict[str, Any]:
    """ELBOs by label."""
    return {
        "Trace_ELBO": Trace_ELBO(max_plate_nesting=1),
        "ScoreFunction": elbo(pre.ScoreFunction()),
        "ScoreFunction-ema": elbo(pre.ScoreFunction("ema")),
        **{f"LeaveOneOut-{k}": elbo(pre.LeaveOneOut(), k) for k in (2, 4, 1 + FACTORS)},
        MEASURE: elbo(pre.MeasureValued()),
    }


def measured(steps: int, num_draws: int, warmup: int = 200) -> pd.DataFrame:
    """The summary of a study, after some steps of training."""
    problem = Factors(steps)
    study = pre.gradient_study(
        problem.model,
        problem.guide,
        problem.x,
        estimators=candidates(),
        num_draws=num_draws,
        warmup=warmup,
        reference=MEASURE,
    )
    return relative(study)


def show(name: str, summary: pd.DataFrame) -> None:
    print(f"Poisson factors, {name}\n{summary.to_string(float_format='%.3g')}")
    ratio, low, high = (
        summary.loc[EQUAL, one] / summary.loc[MEASURE, other]
        for one, other in (("relative_variance",) * 2, ("low", "high"), ("high", "low"))
    )
    print(f"{MEASURE} over {EQUAL}: 1/{ratio:.1f} (1/{low:.1f} to 1/{high:.1f})\n", flush=True)


def run(quick: bool = False) -> list[Row]:
    for name, steps in TABLES.items():
        show(name, measured(min(steps, 5), 20, 2) if quick else measured(steps, 2000))
    return []


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for name in args.tables:
        show(name, measured(TABLES[name], args.draws))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Variance of counts in a guide.")
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=list(TABLES))
    parser.add_argument("--draws", type=int, default=2000)
    main(parser.parse_args())
