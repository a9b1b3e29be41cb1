"""Variance of a subset and of an order in a guide: ``UnorderedSet`` beside ``LeaveOneOut``.

One latent variable, a subset of 3 of 10 items or an order of 5, and a smooth cost of it besides its
divergence from the uniform law. The logits of the guide are random, of three sizes: few values are
likely at the last, as they are late in training. Measured at equal evaluations is the variance of the
gradient in these logits over the squared norm of the exact one, by enumeration.

``python -m tests.benchmarks --only subsets_and_orders`` prints all tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

import pyro_reparam_ext as pre

from .timing import Row

ConditionalBernoulli, PlackettLuce = (
    pre.distributions.ConditionalBernoulli,
    pre.distributions.PlackettLuce,
)
SIZES = (1.0, 3.0, 6.0)


@dataclass(frozen=True)
class Problem:
    """One site, with logits of this size."""

    make: Callable[[Tensor], TorchDistribution]
    items: int
    size: float

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        features = self.make(torch.zeros(self.items)).event_shape.numel()
        logits, first, second = (
            torch.randn(n, generator=generator) for n in (self.items, features, features)
        )
        object.__setattr__(self, "logits", self.size * logits)
        object.__setattr__(self, "weights", (first, second))

    def cost(self, value: Tensor) -> Tensor:
        flat = value.flatten(-len(self.make(self.logits).event_shape))
        first, second = self.weights
        return 2 * (flat @ first).sin() + (flat @ second).tanh()

    def model(self) -> None:
        value = pyro.sample("z", self.make(torch.zeros(self.items)))
        pyro.factor("cost", -self.cost(value))

    def guide(self) -> None:
        pyro.sample("z", self.make(pyro.param("logits", self.logits.clone())))

    def exact(self) -> tuple[Tensor, Tensor]:
        """The squared norm of the gradient, and how many values are likely: of the entropy as such."""
        logits = self.logits.double().requires_grad_()
        fn, prior = self.make(logits), self.make(torch.zeros_like(logits))
        values = fn.enumerate_support()
        log_q = fn.log_prob(values)
        cost = log_q - prior.log_prob(values) + self.cost(values.float()).double()
        (gradient,) = torch.autograd.grad((log_q.exp() * cost).sum(), logits)
        return gradient.square().sum(), fn.entropy().exp().detach()


PROBLEMS = {
    "3 of 10 items": (lambda logits: ConditionalBernoulli(3, logits=logits), 10),
    "an order of 5 items": (PlackettLuce, 5),
}


def candidates() -> dict[str, pre.TraceEstimator_ELBO]:
    """ELBOs by label, of 2, 4 and 8 evaluations."""
    found = {}
    for k in (2, 4, 8):
        options = {"num_particles": k, "max_plate_nesting": 0}
        found[f"LeaveOneOut-{k}"] = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), **options)
        found[f"UnorderedSet-{k}"] = pre.TraceEstimator_ELBO(pre.UnorderedSet(k), max_plate_nesting=0)
    return found


def measured(problem: Problem, num_draws: int) -> pd.DataFrame:
    pyro.clear_param_store()
    study = pre.gradient_study(
        problem.model, problem.guide, estimators=candidates(), num_draws=num_draws, progress=False
    )
    summary = study.summary()
    norm = float(problem.exact()[0])
    for name in ("variance", "variance_low", "variance_high"):
        summary[name] /= norm
    columns = ["evaluations", "variance", "variance_low", "variance_high", "seconds_per_gradient"]
    return summary[columns]


def run(quick: bool = False) -> list[Row]:
    for name, (make, items) in PROBLEMS.items():
        for size in SIZES:
            problem = Problem(make, items, size)
            table = measured(problem, 20 if quick else 4000)
            print(f"{name}, of {float(problem.exact()[1]):.0f} likely values")
            print(f"{table.to_string(float_format='%.3g')}\n", flush=True)
    return []
