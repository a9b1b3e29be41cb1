"""A million draws with backward against TensorFlow Probability and torch; quantiles against scipy."""

from __future__ import annotations

import os
from collections.abc import Callable

import pyro.distributions as dist
import torch
from scipy import special
from torch import Tensor

import pyro_reparam_ext as pre

from .timing import Row, compare

DRAWS = 1_000_000
QUANTILES = 100_000

Make = Callable[..., torch.distributions.Distribution]


def torch_gradient(make: Make, parameters: tuple[Tensor, ...], draws: int) -> Callable[[], None]:
    leaves = [x.clone().requires_grad_() for x in parameters]

    def run() -> None:
        torch.autograd.grad(make(*leaves).rsample((draws,)).sum(), leaves)

    return run


def jax_gradient(make: Callable, parameters: tuple[Tensor, ...]) -> Callable[[], None]:
    import jax

    keys = iter(jax.random.split(jax.random.PRNGKey(0), 10_000))
    given = tuple(jax.numpy.asarray(x.numpy()) for x in parameters)
    # The value too, as torch computes it: otherwise XLA leaves the draws out where it can.
    gradient = jax.jit(jax.value_and_grad(lambda p, key: make(*p).sample(DRAWS, seed=key).sum()))

    def run() -> None:
        jax.block_until_ready(gradient(given, next(keys)))

    return run


def against_tfp(repetitions: int) -> list[Row]:
    # One thread, as torch has.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    try:
        from tensorflow_probability.substrates.jax import distributions as tfd
    except ImportError:
        print("TensorFlow Probability on JAX is not installed: compared with torch only\n")
        return []

    ours = pre.distributions
    scalar = torch.tensor
    logits, loc, scale = scalar([0.0, 0.3, -0.2]), scalar([-1.0, 0.0, 2.0]), scalar([1.0, 1.1, 0.9])
    cases: list[tuple[str, Make, Callable, tuple[Tensor, ...], float]] = [
        ("VonMises", ours.VonMises, tfd.VonMises, (scalar(0.3), scalar(2.0)), 1.0),
        (
            "MixtureSameFamily, 3 normals",
            lambda logits, loc, scale: ours.MixtureSameFamily(
                dist.Categorical(logits=logits), dist.Normal(loc, scale)
            ),
            lambda logits, loc, scale: tfd.MixtureSameFamily(
                tfd.Categorical(logits=logits), tfd.Normal(loc, scale), reparameterize=True
            ),
            (logits, loc, scale),
            0.6,
        ),
        (
            "TruncatedNormal",
            lambda loc, scale: ours.TruncatedNormal(loc, scale, -1.0, 2.0),
            lambda loc, scale: tfd.TruncatedNormal(loc, scale, -1.0, 2.0),
            (scalar(0.0), scalar(1.0)),
            1.0,
        ),
        (
            "InverseGaussian",
            ours.InverseGaussian,
            tfd.InverseGaussian,
            (scalar(1.0), scalar(2.0)),
            1.0,
        ),
    ]
    return [
        compare(
            "distributions / TFP on JAX",
            name,
            torch_gradient(mine, parameters, DRAWS),
            jax_gradient(theirs, parameters),
            repetitions=repetitions,
            calls=1,
            at_most=at_most,
        )
        for name, mine, theirs, parameters, at_most in cases
    ]


def against_torch(repetitions: int) -> list[Row]:
    scalar = torch.tensor
    cases: list[tuple[str, tuple[Tensor, ...], int]] = [
        ("Gamma", (scalar(2.0), scalar(1.0)), DRAWS),
        ("Beta", (scalar(2.0), scalar(3.0)), DRAWS),
        ("Dirichlet", (torch.ones(10),), DRAWS // 10),
        ("StudentT", (scalar(5.0), scalar(0.0), scalar(1.0)), DRAWS),
        ("Kumaraswamy", (scalar(2.0), scalar(3.0)), DRAWS),
        ("ContinuousBernoulli", (scalar(0.2),), DRAWS),
        ("GeneralizedPareto", (scalar(0.0), scalar(1.0), scalar(0.2)), DRAWS),
    ]
    return [
        compare(
            "distributions / torch",
            name,
            torch_gradient(getattr(pre.distributions, name), parameters, draws),
            torch_gradient(getattr(torch.distributions, name), parameters, draws),
            repetitions=repetitions,
            calls=1,
            at_most=1.1,
        )
        for name, parameters, draws in cases
    ]


def quantiles(repetitions: int) -> list[Row]:
    """A hundred thousand quantiles, each of another law."""
    a, b = 10 ** torch.empty(2, QUANTILES, dtype=torch.float64).uniform_(-1, 2)
    u = torch.rand(QUANTILES, dtype=torch.float64)
    shares = u.numpy()
    cases: list[tuple[str, Callable[[], object], Callable[[], object], float | None]] = [
        (
            "Gamma",
            lambda: pre.distributions.Gamma(a, 1.0).icdf(u),
            lambda: special.gammaincinv(a.numpy(), shares),
            3.0,
        ),
        (
            "Beta",
            lambda: pre.distributions.Beta(a, b).icdf(u),
            lambda: special.betaincinv(a.numpy(), b.numpy(), shares),
            3.0,
        ),
        (
            "StudentT",
            lambda: pre.distributions.StudentT(a).icdf(u),
            lambda: special.stdtrit(a.numpy(), shares),
            None,
        ),
    ]
    return [
        compare("quantiles / scipy", *case, repetitions=repetitions, calls=1, at_most=at_most)
        for *case, at_most in cases
    ]


def run(quick: bool = False) -> list[Row]:
    repetitions = 2 if quick else 15
    return [*against_tfp(repetitions), *against_torch(repetitions), *quantiles(repetitions)]
