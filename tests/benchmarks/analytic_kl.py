"""What a divergence in closed form takes from the noise of a Gaussian guide, early and late.

An autoencoder of digits (8 x 8, 16 latent numbers), and a logistic regression of breast cancer::

    python -m tests.benchmarks.analytic_kl
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

import pyro_reparam_ext as pre

ESTIMATORS = {
    "Pathwise": pre.Pathwise(),
    "StickingTheLanding": pre.StickingTheLanding(),
    "AnalyticKL": pre.AnalyticKL(),
}
BATCH, LATENT = 50, 16


class Autoencoder:
    """Binarised digits, decoded from Gaussian numbers."""

    title, names = "digits", ("encoder",)

    def __init__(self) -> None:
        images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
        self.batch = (images[:BATCH] > 0.5).float()
        self.images = (images > 0.5).float()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.3), nn.Linear(64, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 64), nn.LeakyReLU(0.3), nn.Linear(64, 64))

    def data(self, number: int) -> tuple[torch.Tensor]:
        start = number * BATCH % (len(self.images) - BATCH)
        return (self.images[start : start + BATCH],)

    def model(self, x: torch.Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class Logistic:
    """Coefficients with standard normal priors."""

    title, names = "breast cancer", ("loc", "scale")

    def __init__(self) -> None:
        x, benign = load_breast_cancer(return_X_y=True)
        x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
        self.batch = torch.cat([torch.ones(len(x), 1), x], 1)
        self.benign = torch.tensor(benign, dtype=torch.float32)

    def data(self, number: int) -> tuple[torch.Tensor]:
        return (self.batch,)

    def model(self, x: torch.Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        with pyro.plate("cells", len(x)):
            logits = (z.unsqueeze(-2) * x).sum(-1)
            pyro.sample("benign", dist.Bernoulli(logits=logits), obs=self.benign)

    def guide(self, x: torch.Tensor) -> None:
        loc = pyro.param("loc", torch.zeros(x.shape[1]))
        scale = pyro.param("scale", torch.full((x.shape[1],), 0.1), dist.constraints.positive)
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def measured(program: Any, make: Callable[[Any], Any], draws: int) -> pd.Series:
    """The variance of the gradient in the guide over its squared norm."""
    elbos = {name: make(estimator) for name, estimator in ESTIMATORS.items()}
    study = pre.gradient_study(
        program.model, program.guide, program.batch, estimators=elbos, num_draws=draws
    )
    names = [n for n in pyro.get_param_store() if n.startswith(program.names)]
    return study.summary(params=names).relative_variance


def main() -> None:
    for cls, phases in ((Autoencoder, (1, 300, 5000)), (Logistic, (1, 100, 2000))):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        program = cls()

        def make(estimator: Any) -> pre.TraceEstimator_ELBO:
            return pre.TraceEstimator_ELBO(estimator, max_plate_nesting=1)

        optim = pyro.optim.Adam({"lr": 1e-3 if cls is Autoencoder else 0.02})
        svi, rows = pre.CompiledSVI(program.model, program.guide, optim, make(pre.Pathwise())), {}
        for number in range(max(phases) + 1):
            if number in phases:
                rows[f"step {number}"] = measured(program, make, 400)
            svi.step(*program.data(number))
        print(f"{cls.title}: variance over squared norm\n{pd.DataFrame(rows).round(4)}\n", flush=True)


if __name__ == "__main__":
    main()
