"""A training step of a network whose examples have noise of their own, against a shared draw."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_value
from torch import nn

import pyro_reparam_ext as pre

from .timing import Row, compare

CONTEXTS = {"local reparameterisation": pre.nn.local_reparameterization, "Flipout": pre.nn.flipout}
NETWORKS = {
    "8-50-1, batch 256": ([8, 50, 1], 256, 0.05),
    "noisy 4-128-128-2, batch 64": ([4, 128, 128, 2], 64, 0.017),
}


def stepper(sizes: list[int], batch: int, scale: float, context: Callable = nullcontext) -> Callable:
    """A function that takes one step of SVI within the context."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    bnn = pre.nn.to_bayesian(nn.Sequential(*layers[:-1]), dist.Normal(0.0, 1.0))

    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        loc = bnn(x)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, 0.1).to_event(1), obs=y)

    start = init_to_value(values=bnn.initial_values())
    guide = AutoNormal(model, init_loc_fn=start, init_scale=scale)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-5}), Trace_ELBO())
    x, y = torch.randn(batch, sizes[0]), torch.randn(batch, sizes[-1])

    def step() -> float:
        with context():
            return svi.step(x, y)

    return step


def run(quick: bool = False) -> list[Row]:
    rows = []
    for case, network in NETWORKS.items():
        for name, context in CONTEXTS.items():
            pyro.clear_param_store()
            plain, within = stepper(*network), stepper(*network, context)
            rows.append(
                compare(
                    "Bayesian network",
                    f"{name}, {case}",
                    within,
                    plain,
                    repetitions=3 if quick else 60,
                    at_most=1.2,
                )
            )
    return rows
