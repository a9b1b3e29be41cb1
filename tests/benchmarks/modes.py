"""One gradient by ``vmap`` and in the loop, against one of a program that broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator
from pyro_reparam_ext.evaluation.modes import MODES, Vectorize

from .programs import BernoulliVAE, binary_images
from .timing import Row, compare

Gradient = Callable[[], float]


def run(quick: bool = False) -> list[Row]:
    rows = []
    for name, gradient in _cases():
        gradients = {mode: gradient(mode) for mode in MODES}
        few = quick or "LocalExpectation" in name  # 201 evaluations
        for mode in MODES[1:]:
            rows.append(
                compare(
                    name,
                    f"{'vmap' if mode else 'loop'} / broadcast",
                    gradients[mode],
                    gradients[True],
                    repetitions=2 if quick else 6 if few else 20,
                    calls=1 if few else 2,
                    at_most=1.3 if mode else None,
                )
            )
    return rows


def _cases() -> Iterator[tuple[str, Callable[[Vectorize], Gradient]]]:
    """What is computed, and how its gradient is made for each mode."""
    x = binary_images(50, 784)
    one, two = BernoulliVAE(784, 200), TwoLayers(784, 200)
    by: dict[str, tuple[Estimator, int]] = {
        "DisARM": (pre.DisARM(), 1),
        "LeaveOneOut, 2 particles": (pre.LeaveOneOut(), 2),
        "REBAR": (pre.REBAR(), 1),
    }
    local: dict[str, tuple[Estimator, int]] = {"LocalExpectation": (pre.LocalExpectation(), 1)}
    for vae, layers, estimators in ((one, "784-200", by | local), (two, "784-200-200", by)):
        for name, (estimator, particles) in estimators.items():
            yield (
                f"VAE {layers}, batch 50, {name}",
                lambda mode, vae=vae, e=estimator, k=particles: _gradient(mode, e, k, vae, x),
            )
    for particles in (1, 8):
        yield (
            f"regression, AutoNormal, {particles} particles",
            lambda mode, k=particles: _gradient(mode, None, k, Regression()),
        )


def _gradient(
    mode: Vectorize, estimator: Estimator | None, particles: int, program: nn.Module, *args: Tensor
) -> Gradient:
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=particles, vectorize_particles=mode)
    program.guide(*args), program.model(*args)  # makes the parameters

    def gradient() -> float:
        program.zero_grad()
        return elbo.loss_and_grads(program.model, program.guide, *args)

    return gradient


class TwoLayers(BernoulliVAE):
    """A second layer of Bernoulli latents, behind the first."""

    def __init__(self, pixels: int, latents: int) -> None:
        super().__init__(pixels, latents)
        self.up, self.down = nn.Linear(latents, latents), nn.Linear(latents, latents)

    def model(self, x: Tensor) -> None:
        pyro.module("two_layers", self)
        with pyro.plate("data", len(x)):
            deep = pyro.sample("deep", dist.Bernoulli(logits=self.prior).to_event(1))
            z = pyro.sample("z", dist.Bernoulli(logits=self.down(deep)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("two_layers", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))
            pyro.sample("deep", dist.Bernoulli(logits=self.up(z)).to_event(1))


class Regression(nn.Module):
    """Fifty rows, four coefficients, an intercept and a scale; the guide is an ``AutoNormal``."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = torch.randn(50, 4), torch.randn(50)
        self.guide = AutoNormal(self.model)

    def model(self) -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([4]).to_event(1))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("rows", len(self.x)):
            loc = (self.x * w).sum(-1) + b
            pyro.sample("y", dist.Normal(loc, scale), obs=self.y)
