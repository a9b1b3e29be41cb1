"""CPU time of one gradient of a Bernoulli VAE, beside that of Storchastic (van Krieken et al., 2021).

784 pixels - 200 latents and back, linear, a hundred images, for each estimator that both libraries
have; not ARM, which in Storchastic 0.3.7 does not run for vectors. Its program is written as its own
examples are: the divergence of guide and prior in closed form, the reconstruction as a cost of the
sample. Validation is off in both. It is no dependency of the project; it and ``entmax``, which it
imports, can be put into a folder of their own::

    pip install --target FOLDER --no-deps storchastic entmax
    PYTHONPATH=FOLDER python -m tests.benchmarks --only storchastic
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator

from .programs import BernoulliVAE, binary_images
from .timing import Row, compare
from .variances import elbo

BATCH, PIXELS, LATENTS = 100, 784, 200
AT_MOST = 0.7
"""The ratio wanted."""


def run(quick: bool = False) -> list[Row]:
    if not find_spec("storch"):
        print(f"{__doc__}\nIt is not installed.\n")
        return []
    vae, x = BernoulliVAE(PIXELS, LATENTS), binary_images(BATCH, PIXELS)
    with pyro.validation_enabled(False):
        return [
            compare(
                f"gradient / Storchastic, {PIXELS}-{LATENTS}-{PIXELS}, batch {BATCH}",
                name,
                _ours(estimator, particles, vae, x),
                _theirs(method(), vae, x),
                repetitions=2 if quick else 20,
                calls=1 if quick else 3,
                at_most=AT_MOST,
            )
            for name, (estimator, particles, method) in _cases().items()
        ]


def _cases() -> dict[str, tuple[Estimator, int, Callable[[], Any]]]:
    """Ours, its particles, and theirs."""
    from storch import method

    return {
        "ScoreFunction": (pre.ScoreFunction(), 1, lambda: method.ScoreFunction("z")),
        "ScoreFunction, moving average": (
            pre.ScoreFunction("ema"),
            1,
            lambda: method.ScoreFunction("z", baseline_factory="moving_average"),
        ),
        **{
            f"LeaveOneOut, {k} particles": (
                pre.LeaveOneOut(),
                k,
                lambda k=k: method.ScoreFunction("z", n_samples=k, baseline_factory="batch_average"),
            )
            for k in (2, 4)
        },
        "DisARM": (pre.DisARM(), 1, lambda: method.DisARM("z")),
        "REBAR": (pre.REBAR(), 1, lambda: method.REBAR("z")),
        "RELAX": (pre.RELAX(), 1, lambda: method.RELAX("z", in_dim=(LATENTS,))),
        "GumbelSoftmax": (pre.GumbelSoftmax(1.0), 1, lambda: method.GumbelSoftmax("z")),
        "straight-through GumbelSoftmax": (
            pre.StraightThroughGumbelSoftmax(1.0),
            1,
            lambda: method.GumbelSoftmax("z", straight_through=True),
        ),
    }


def _ours(estimator: Estimator, particles: int, vae: BernoulliVAE, x: Tensor) -> Callable[[], float]:
    loss = elbo(estimator, particles)

    def gradient() -> float:
        vae.zero_grad()
        return loss.loss_and_grads(vae.model, vae.guide, x)

    return gradient


def _theirs(method: Any, vae: BernoulliVAE, x: Tensor) -> Callable[[], float]:
    import storch

    @storch.deterministic
    def encode(x: Tensor) -> Tensor:
        return vae.encoder(x)

    @storch.deterministic
    def decode(z: Tensor) -> Tensor:
        return vae.decoder(z.float())  # DisARM: booleans

    @storch.deterministic
    def reconstruction(logits: Tensor, x: Tensor) -> Tensor:
        x = x.expand(logits.shape)
        return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)

    def gradient() -> float:
        vae.zero_grad()
        storch.reset()
        data = storch.denote_independent(x, 0, "data")
        law = Bernoulli(logits=encode(data), validate_args=False)
        prior = Bernoulli(logits=torch.zeros_like(law.logits), validate_args=False)
        storch.add_cost(kl_divergence(law, prior).sum(-1), "divergence")
        storch.add_cost(reconstruction(decode(method(law)), data), "reconstruction")
        return storch.backward().item()

    return gradient
