"""The models and guides that are timed."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn


class GaussianVAE(nn.Module):
    """Binary pixels - hidden units - Normal latents, and back."""

    def __init__(self, pixels: int = 64, hidden: int = 64, latents: int = 10) -> None:
        super().__init__()
        self.latents = latents
        self.encoder = nn.Sequential(
            nn.Linear(pixels, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, 2 * latents)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latents, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, pixels)
        )

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            loc = x.new_zeros(len(x), self.latents)
            z = pyro.sample("z", dist.Normal(loc, torch.ones_like(loc)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class BernoulliVAE(nn.Module):
    """Binary pixels - Bernoulli latents and back, linear or by one hidden layer each."""

    def __init__(self, pixels: int, latents: int, hidden: int | None = None) -> None:
        super().__init__()
        self.encoder = network(pixels, hidden, latents)
        self.decoder = network(latents, hidden, pixels)
        self.register_buffer("prior", torch.zeros(latents))

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


def network(inputs: int, hidden: int | None, outputs: int) -> nn.Module:
    if hidden is None:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, outputs))


def groups() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and outputs of a regression, and the group of each row."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 200, generator=generator)
    return x, y, torch.randint(8, (200,), generator=generator)


def hierarchical() -> tuple[Any, Any, tuple]:
    """A regression with a level for each group: model, guide and arguments."""
    x, y, group = groups()

    def model(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        spread = pyro.sample("spread", dist.HalfNormal(2.0))
        slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
        with pyro.plate("groups", 8):
            level = pyro.sample("level", dist.Normal(mean, spread))
        noise = pyro.sample("noise", dist.HalfNormal(2.0))
        with pyro.plate("rows", 200):
            pyro.sample("y", dist.Normal(level[..., group] + slope * x, noise), obs=y)

    return model, AutoNormal(model), (x, y)


def bayesian_network() -> tuple[Any, Any, tuple]:
    """A Bayesian network with one hidden layer: model, guide and arguments."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 13, generator=generator), torch.randn(100, generator=generator)

    def model(x: Tensor, y: Tensor) -> None:
        hidden = pyro.sample("hidden", dist.Normal(torch.zeros(13, 50), 1.0).to_event(2))
        bias = pyro.sample("bias", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        out = pyro.sample("out", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        last = pyro.sample("last", dist.Normal(0.0, 1.0))
        precision = pyro.sample("precision", dist.Gamma(2.0, 2.0))
        mean = torch.tanh(x @ hidden + bias) @ out + last
        with pyro.plate("rows", 100):
            pyro.sample("y", dist.Normal(mean, precision.rsqrt()), obs=y)

    return model, AutoNormal(model), (x, y)


def binary_images(batch: int, pixels: int, seed: int = 0) -> Tensor:
    """Random binary images of uneven brightness."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.rand(pixels, generator=generator)
    return (torch.rand(batch, pixels, generator=generator) < brightness).float()
