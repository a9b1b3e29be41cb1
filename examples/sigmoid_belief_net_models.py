"""Sigmoid belief nets: layers of binary units, each drawn given the layer above, and their guides."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

HIDDEN = 200
"""Units of a deterministic layer."""

Connection = Callable[[int, int], nn.Module]
"""A network from so many units to so many logits."""


def nonlinear(inputs: int, outputs: int) -> nn.Module:
    """Two deterministic layers between two stochastic ones."""
    return nn.Sequential(
        *(nn.Linear(inputs, HIDDEN), nn.Tanh()),
        *(nn.Linear(HIDDEN, HIDDEN), nn.Tanh()),
        nn.Linear(HIDDEN, outputs),
    )


CONNECTIONS: dict[str, Connection] = {"linear": nn.Linear, "nonlinear": nonlinear}


class BeliefNet(nn.Module):
    """Binary pixels under ``layers`` layers of ``units`` binary units; the guide draws from pixels up.

    Pixels enter the guide less their mean, units as -1 and 1; pixels start at the mean's logits.
    """

    def __init__(self, mean: Tensor, *, units: int, layers: int, connection: Connection) -> None:
        super().__init__()
        sizes = list(pairwise([len(mean), *[units] * layers]))
        self.units, self.mean = units, mean
        self.bias = mean.clamp(0.001, 0.999).logit()
        self.up = nn.ModuleList(connection(below, above) for below, above in sizes)
        self.down = nn.ModuleList(connection(above, below) for below, above in sizes)

    def model(self, x: Tensor) -> None:
        pyro.module("down", self.down)
        logits = pyro.param("prior", torch.zeros(self.units))
        with pyro.plate("images", len(x)):
            for layer, down in reversed(list(enumerate(self.down, 1))):
                z = pyro.sample(f"z{layer}", dist.Bernoulli(logits=logits).to_event(1))
                logits = down(2 * z - 1)
            pyro.sample("x", dist.Bernoulli(logits=logits + self.bias).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("up", self.up)
        inputs = x - self.mean
        with pyro.plate("images", len(x)):
            for layer, up in enumerate(self.up, 1):
                z = pyro.sample(f"z{layer}", dist.Bernoulli(logits=up(inputs)).to_event(1))
                inputs = 2 * z - 1
