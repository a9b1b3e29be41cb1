"""The variance of every unbiased estimator of binary sites, on the toy problem of their papers.

``python -m tests.benchmarks --only discrete_toy`` prints the logarithm of the variance per logit of the
gradient of the mean of ``(z - 0.499) ** 2`` over the coordinates of one Bernoulli vector. Estimators
that learn are as they are before they have learnt anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch

import pyro_reparam_ext as pre

from ..registry import REGISTRY
from .timing import Row

TARGET = 0.499
CASES = ((1, 0.5), (1, 0.1), (200, 0.5))
"""Coordinates, and the probability of each."""
FEW = 2**10
"""Evaluations that one gradient may take."""


def run(quick: bool = False) -> list[Row]:
    """Prints the table. It has no times."""
    columns = {f"D={size}, p={prob:g}": log_variances(size, prob, quick) for size, prob in CASES}
    print("ln of the variance per logit, E[mean((z - 0.499)^2)]\n")
    print(pd.DataFrame(columns).to_string(float_format="%.1f", na_rep=""), "\n", flush=True)
    return []


def log_variances(size: int, prob: float, quick: bool) -> pd.Series:
    logits = torch.full((size,), prob, dtype=torch.float64).logit()

    def guide() -> None:
        parameter = pyro.param("logits", logits.clone())
        pyro.sample("z", dist.Bernoulli(logits=parameter).to_event(1))

    def model() -> None:
        """The guide's own law, so that the cost is the function alone."""
        z = pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))
        pyro.factor("f", -(z - TARGET).square().mean(-1))

    fn, elbos = dist.Bernoulli(logits=logits).to_event(1), {}
    for label, make in _candidates().items():
        elbo = make()
        if elbo.estimators["z"].evaluations(fn) <= FEW:
            elbos[label] = elbo
    pyro.clear_param_store()
    draws = (200 if quick else 10_000) if size == 1 else (50 if quick else 500)
    study = pre.gradient_study(model, guide, estimators=elbos, num_draws=draws)
    with np.errstate(divide="ignore"):
        return np.log(study.summary().variance / size)


def _candidates() -> dict[str, Callable[[], pre.TraceEstimator_ELBO]]:
    """Each with as few particles as it needs; ``LeaveOneOut`` with more, too."""
    found = {}
    for label, entry in REGISTRY.items():
        if entry.make().unbiased and "Bernoulli-event" in entry.families:
            found[label] = (entry.make, entry.num_particles)
    found |= {f"LeaveOneOut, {count}": (pre.LeaveOneOut, count) for count in (3, 4)}
    found |= {f"ARMS, {count}": (lambda count=count: pre.ARMS(count), 1) for count in (2, 3)}
    return {
        label: lambda make=make, count=count: pre.TraceEstimator_ELBO(
            {"z": make()}, num_particles=count, max_plate_nesting=0
        )
        for label, (make, count) in found.items()
    }
