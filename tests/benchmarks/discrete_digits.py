"""Variance and bias of the discrete estimators, early and late in training, on images of digits.

A VAE of sklearn's digits, 64 pixels - 64 hidden units - latents, and back, is trained on binary
images, drawn anew in each step, and frozen: one of 32 Bernoulli latents after 300 and after 5,000
steps, one of four one-hot latents of eight classes after 4,000. Measured is the gradient in the
encoder's logits of one batch, its variance over the squared norm of its mean. What learns does so
before, with all else frozen.

``python -m tests.benchmarks --only discrete_digits`` prints these tables before the times of one
gradient; ``python -m tests.benchmarks.discrete_digits`` the tables alone, of the labels asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.optim import Adam
from sklearn.datasets import load_digits
from torch import Tensor

import pyro_reparam_ext as pre

from ..registry import REGISTRY
from .programs import network
from .timing import Row
from .variances import elbo, relative

BATCH, HIDDEN, PIXELS = 50, 64, 64
REFERENCE, BASELINE = "LocalExpectation", "LeaveOneOut"
MANY = {"LeaveOneOut-4": 4}
"""Particles of further labels of LeaveOneOut."""


@dataclass(frozen=True)
class Table:
    """One frozen VAE: ``law`` of its latents given ``outputs`` logits, after some ``steps``."""

    name: str
    law: Callable[[Tensor], dist.TorchDistribution]
    outputs: int
    steps: int


def _bits(logits: Tensor) -> dist.TorchDistribution:
    return dist.Bernoulli(logits=logits).to_event(1)


def _classes(logits: Tensor) -> dist.TorchDistribution:
    return dist.OneHotCategorical(logits=logits.unflatten(-1, (4, 8))).to_event(1)


TABLES = (
    Table("32 Bernoulli latents, 300 steps", _bits, 32, 300),
    Table("32 Bernoulli latents, 5,000 steps", _bits, 32, 5000),
    Table("4 one-hot latents of 8 classes, 4,000 steps", _classes, 32, 4000),
)


class Trained:
    """A VAE on digits after some steps, by leave-one-out with four particles."""

    def __init__(self, table: Table, steps: int) -> None:
        pyro.clear_param_store()
        torch.manual_seed(0)
        self.law, self.outputs = table.law, table.outputs
        self.encoder = network(PIXELS, HIDDEN, table.outputs)
        self.decoder = network(table.outputs, HIDDEN, PIXELS)
        images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
        elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=4, max_plate_nesting=2)
        svi = SVI(self.model, self.guide, Adam({"lr": 1e-3}), elbo)
        for _ in range(steps):
            svi.step(images[torch.randint(len(images), (BATCH,))].bernoulli())
        self.x = images[:BATCH].bernoulli()
        self.logits = self.encoder(self.x).detach()
        self.decoder.requires_grad_(False)
        pyro.clear_param_store()

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        self.generate(x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.law(self.encoder(x)))

    def generate(self, x: Tensor) -> None:
        """The model, with the decoder as it is."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.law(x.new_zeros(len(x), self.outputs)))
            mean = self.decoder(z if z.shape[-1] == self.outputs else z.flatten(-2))
            pyro.sample("x", dist.Bernoulli(logits=mean).to_event(1), obs=x)

    def frozen_guide(self, x: Tensor) -> None:
        """The guide, with the logits as its parameters."""
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.law(pyro.param("logits", self.logits.clone())))


def labels(law: Callable[[Tensor], dist.TorchDistribution], outputs: int) -> list[str]:
    """The estimators of the registry that serve such latents and can be run."""
    made = {label: entry.make() for label, entry in REGISTRY.items()}
    fn = law(torch.zeros(1, outputs))
    serving = [label for label, e in made.items() if e.serves(fn) and not e.enumerated]
    return [*serving, *MANY]


def elbo_of(label: str) -> pre.TraceEstimator_ELBO:
    if label in MANY:
        return elbo(pre.LeaveOneOut(), MANY[label])
    return elbo(REGISTRY[label].make(), REGISTRY[label].num_particles)


def measured(
    table: Table, num_draws: int, warmup: int, only: Collection[str] = (), steps: int | None = None
) -> pd.DataFrame:
    """The summary of a study of one table's estimators."""
    trained = Trained(table, table.steps if steps is None else steps)
    chosen = only or labels(table.law, table.outputs)
    study = pre.gradient_study(
        trained.generate,
        trained.frozen_guide,
        trained.x,
        estimators={label: elbo_of(label) for label in dict.fromkeys([*chosen, REFERENCE, BASELINE])},
        num_draws=num_draws,
        warmup=warmup,
        reference=REFERENCE,
    )
    return relative(study)


def show(table: Table, summary: pd.DataFrame) -> None:
    print(f"{table.name}\n{summary.to_string(float_format='%.3g')}\n", flush=True)


def run(quick: bool = False) -> list[Row]:
    rows = []
    for table in TABLES:
        summary = measured(table, *((50, 5) if quick else (2000, 2000)), steps=20 if quick else None)
        show(table, summary)
        seconds: Any = summary.seconds_per_gradient
        for label in summary.index:
            ours, base = seconds[label], seconds[BASELINE]
            rows.append(Row(f"gradient / {BASELINE}, {table.name}", label, ours, base, ours / base))
    return rows


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for number in args.tables:
        show(TABLES[number], measured(TABLES[number], args.draws, args.warmup, args.only))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Variance and bias on digits.")
    parser.add_argument("--tables", type=int, nargs="*", default=range(len(TABLES)))
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--warmup", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=(), help="labels of tests/registry.py")
    main(parser.parse_args())
