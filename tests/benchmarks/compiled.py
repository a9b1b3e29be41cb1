"""A step of CompiledSVI against one of Pyro's SVI, and of NumPyro's, jitted and scanned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor

import pyro_reparam_ext as pre

from .programs import BernoulliVAE, GaussianVAE, bayesian_network, binary_images, groups, hierarchical
from .timing import Row, compare

STEPS = 100
RATE = 1e-3
THREADS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclass(frozen=True)
class Case:
    """One program for Pyro, the ELBO by which each of the two steps, and NumPyro's twin.

    ``bounds``: on the ratios to Pyro's step, to NumPyro's step, and to NumPyro's scan.
    """

    name: str
    program: Callable[[], tuple[Any, Any, tuple]]
    elbo: Callable[[], Any]
    pyro_elbo: Callable[[], Any]
    twin: Callable[[], tuple[Any, Any, Any, tuple]]
    bounds: tuple[float, float, float]


def run(quick: bool = False) -> list[Row]:
    os.environ.setdefault("XLA_FLAGS", THREADS)
    rows = []
    for case in _cases():
        for what, candidate, baseline, bound, calls in _pairs(case):
            few = {"repetitions": 3, "calls": 1} if quick else {"repetitions": 20, "calls": calls}
            rows.append(compare(case.name, what, candidate, baseline, at_most=bound, **few))
    return rows


Pair = tuple[str, Callable[[], object], Callable[[], object], float, int]


def _pairs(case: Case) -> Iterator[Pair]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    model, guide, args = case.program()
    eager = SVI(model, guide, Adam({"lr": RATE}), case.pyro_elbo())
    compiled = pre.CompiledSVI(model, guide, Adam({"lr": RATE}), case.elbo())
    for _ in range(3):
        eager.step(*args)
        compiled.step(*args)
    update, scan = _numpyro(*case.twin())
    of_pyro, of_update, of_scan = case.bounds
    step = lambda: compiled.step(*args)  # noqa: E731
    yield "step / Pyro's SVI", step, lambda: eager.step(*args), of_pyro, 40
    yield "step / NumPyro's update", step, update, of_update, 40
    many = lambda: compiled.run(STEPS, *args, progress=False)  # noqa: E731
    yield f"run of {STEPS} / NumPyro's scan", many, scan, of_scan, 1


def _numpyro(model: Any, guide: Any, loss: Any, args: tuple) -> tuple[Callable, Callable]:
    import jax
    import numpyro

    svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(RATE), loss)
    state = [svi.init(jax.random.PRNGKey(0), *args)]
    one = jax.jit(svi.update)
    steps = jax.jit(lambda state: jax.lax.scan(lambda s, _: svi.update(s, *args), state, None, STEPS))

    def update() -> float:
        state[0], loss = one(state[0], *args)
        return float(loss)

    def scan() -> object:
        state[0], losses = steps(state[0])
        return losses.block_until_ready()

    return update, scan


def _cases() -> Iterator[Case]:
    ours = pre.TraceEstimator_ELBO

    def plain() -> Any:
        return Trace_ELBO(max_plate_nesting=1)

    for pixels, hidden, latents, batch, bounds in (
        (64, 64, 10, 64, (0.06, 0.45, 1.0)),
        (784, 200, 50, 100, (0.37, 0.85, 0.9)),
    ):
        sizes = pixels, hidden, latents
        yield Case(
            f"Gaussian VAE {pixels}-{hidden}-{latents}, batch {batch}",
            lambda sizes=sizes, batch=batch: _vae(GaussianVAE(*sizes), batch, sizes[0]),
            lambda: ours(max_plate_nesting=1),
            plain,
            lambda sizes=sizes, batch=batch: _gaussian_twin(*sizes, batch),
            bounds,
        )
    yield Case(
        "hierarchical regression, AutoNormal, 5 sites",
        hierarchical,
        lambda: ours(max_plate_nesting=1),
        plain,
        _hierarchical_twin,
        (0.012, 0.25, 1.3),
    )
    yield Case(
        "Bayesian net 13-50-1, AutoNormal",
        bayesian_network,
        lambda: ours(max_plate_nesting=1),
        plain,
        _network_twin,
        (0.025, 0.4, 0.8),
    )
    for name, estimator, particles, bounds in (
        ("DisARM", pre.DisARM(), 1, (0.33, 0.88, 0.95)),
        ("LeaveOneOut, 2 particles", pre.LeaveOneOut(), 2, (0.33, 0.88, 1.0)),
    ):
        yield Case(
            f"Bernoulli VAE 784-200, batch 50, {name}",
            lambda: _vae(BernoulliVAE(784, 200), 50, 784),
            lambda e=estimator, k=particles: ours(e, num_particles=k, max_plate_nesting=1),
            lambda k=particles: Trace_ELBO(
                num_particles=k, max_plate_nesting=1 + (k > 1), vectorize_particles=k > 1
            ),
            lambda k=particles: _bernoulli_twin(784, 200, 50, k),
            bounds,
        )


# -- the programs -----------------------------------------------------------------------------------


def _vae(vae: Any, batch: int, pixels: int) -> tuple[Any, Any, tuple]:
    return vae.model, vae.guide, (binary_images(batch, pixels),)


# -- the same for NumPyro ---------------------------------------------------------------------------


def _jnp(*tensors: Tensor) -> tuple:
    import jax.numpy as jnp

    return tuple(jnp.asarray(x.numpy()) for x in tensors)


def _dense(name: str, inputs: int, outputs: int) -> Callable:
    import jax
    import numpyro

    key = jax.random.PRNGKey(inputs + outputs)
    weight = numpyro.param(f"{name}.w", jax.random.normal(key, (inputs, outputs)) * inputs**-0.5)
    bias = numpyro.param(f"{name}.b", jax.numpy.zeros(outputs))
    return lambda x: x @ weight + bias


def _gaussian_twin(pixels: int, hidden: int, latents: int, batch: int) -> tuple:
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as nd

    def model(x: Any) -> None:
        first, second = _dense("d1", latents, hidden), _dense("d2", hidden, pixels)
        with numpyro.plate("data", batch):
            z = numpyro.sample("z", nd.Normal(jnp.zeros((batch, latents)), 1.0).to_event(1))
            logits = second(jax.nn.leaky_relu(first(z), 0.3))
            numpyro.sample("x", nd.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: Any) -> None:
        first, second = _dense("e1", pixels, hidden), _dense("e2", hidden, 2 * latents)
        loc, log_scale = jnp.split(second(jax.nn.leaky_relu(first(x), 0.3)), 2, -1)
        with numpyro.plate("data", batch):
            numpyro.sample("z", nd.Normal(loc, jnp.exp(log_scale)).to_event(1))

    return model, guide, numpyro.infer.Trace_ELBO(), _jnp(binary_images(batch, pixels))


def _bernoulli_twin(pixels: int, latents: int, batch: int, particles: int) -> tuple:
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as nd

    def model(x: Any) -> None:
        decoder = _dense("d", latents, pixels)
        with numpyro.plate("data", batch):
            z = numpyro.sample("z", nd.Bernoulli(logits=jnp.zeros(latents)).to_event(1))
            numpyro.sample("x", nd.Bernoulli(logits=decoder(z.astype(float))).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encoder = _dense("e", pixels, latents)
        with numpyro.plate("data", batch):
            numpyro.sample("z", nd.Bernoulli(logits=encoder(x)).to_event(1))

    loss = numpyro.infer.TraceGraph_ELBO(num_particles=particles)
    return model, guide, loss, _jnp(binary_images(batch, pixels))


def _hierarchical_twin() -> tuple:
    import numpyro
    from numpyro import distributions as nd

    x, y, group = _jnp(*groups())

    def model(x: Any, y: Any) -> None:
        mean = numpyro.sample("mean", nd.Normal(0.0, 10.0))
        spread = numpyro.sample("spread", nd.HalfNormal(2.0))
        slope = numpyro.sample("slope", nd.Normal(0.0, 10.0))
        with numpyro.plate("groups", 8):
            level = numpyro.sample("level", nd.Normal(mean, spread))
        noise = numpyro.sample("noise", nd.HalfNormal(2.0))
        with numpyro.plate("rows", 200):
            numpyro.sample("y", nd.Normal(level[group] + slope * x, noise), obs=y)

    guide = numpyro.infer.autoguide.AutoNormal(model)
    return model, guide, numpyro.infer.Trace_ELBO(), (x, y)


def _network_twin() -> tuple:
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as nd

    def model(x: Any, y: Any) -> None:
        hidden = numpyro.sample("hidden", nd.Normal(jnp.zeros((13, 50)), 1.0).to_event(2))
        bias = numpyro.sample("bias", nd.Normal(jnp.zeros(50), 1.0).to_event(1))
        out = numpyro.sample("out", nd.Normal(jnp.zeros(50), 1.0).to_event(1))
        last = numpyro.sample("last", nd.Normal(0.0, 1.0))
        precision = numpyro.sample("precision", nd.Gamma(2.0, 2.0))
        mean = jnp.tanh(x @ hidden + bias) @ out + last
        with numpyro.plate("rows", 100):
            numpyro.sample("y", nd.Normal(mean, precision**-0.5), obs=y)

    guide = numpyro.infer.autoguide.AutoNormal(model)
    _, _, data = bayesian_network()
    return model, guide, numpyro.infer.Trace_ELBO(), _jnp(*data)
