"""Programs whose bound by several particles is known exactly, with its gradient.

Discrete values are enumerated, for all particles jointly, and normal ones integrated by Gauss-Hermite
nodes in the standard normal noise that they are functions of: the exact bound is a function of the
parameters that autograd differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.draws import Draws
from pyro_reparam_ext.study.elbo_call import ElboCall
from pyro_reparam_ext.study.sampler import Sampler

DOUBLE = torch.float64
NODES = 24


def number(x):
    return torch.tensor(x, dtype=DOUBLE)


def log_normal(x, loc, scale):
    return dist.Normal(loc, scale).log_prob(x)


def log_coin(x, logit):
    return dist.Bernoulli(logits=logit).log_prob(x)


@dataclass(frozen=True, eq=False)
class Program:
    """A model and a guide; how many normal and binary values they have, and their joint densities.

    ``joint(p, eps, coins)``: from parameters, noise ``(normal, points)`` and binary values
    ``(binary, points)`` to the log weight of one particle and to the log probability of the coins.
    """

    initial: dict[str, float]
    normal: int
    binary: int
    model: Callable[..., object]
    guide: Callable[..., object]
    joint: Callable[..., tuple[Tensor, Tensor]]
    copies: int = 1

    def exact(self, num_particles: int, alpha: float) -> Tensor:
        """The negative bound, and its gradient in :attr:`initial`, in order."""
        p = {name: number(x).requires_grad_() for name, x in self.initial.items()}
        x, weight = np.polynomial.hermite_e.hermegauss(NODES)
        nodes = torch.as_tensor(x, dtype=DOUBLE)
        logs = torch.as_tensor(weight / weight.sum(), dtype=DOUBLE).log()
        axes = [torch.arange(NODES)] * self.normal + [torch.arange(2)] * self.binary
        points = torch.cartesian_prod(*axes).reshape(-1, len(axes)).T
        eps, coins = nodes[points[: self.normal]], points[self.normal :].to(DOUBLE)
        log_weight, log_prob = self.joint(p, eps, coins)
        mass = logs[points[: self.normal]].sum(0) + log_prob  # of each point, of one particle
        power, total, masses = 1 - alpha, None, None
        for number_of in range(num_particles):  # an outer sum over the points of all particles
            shape = [1] * num_particles
            shape[number_of] = -1
            part, of_part = (power * log_weight).reshape(shape), mass.reshape(shape)
            total = part if total is None else torch.logaddexp(total, part)
            masses = of_part if masses is None else masses + of_part
        bound = (total - np.log(num_particles)) / power
        loss = -self.copies * (masses.exp() * bound).sum()
        gradient = torch.autograd.grad(
            loss, list(p.values()), materialize_grads=True, allow_unused=True
        )
        return torch.stack([loss.detach(), *gradient])


def param(name, program):
    return pyro.param(name, number(program.initial[name]))


# -- one normal site ---------------------------------------------------------------------------------

X = 1.2


def one_site(p, eps, coins):
    z = p["loc"] + p["log_scale"].exp() * eps[0]
    w = log_normal(z, number(0.0), 1.0) + log_normal(number(X), p["slope"] * z, 0.7)
    return w - log_normal(z, p["loc"], p["log_scale"].exp()), torch.zeros(())


def one_site_model():
    z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
    pyro.sample("x", dist.Normal(param("slope", ONE) * z, 0.7), obs=number(X))


def one_site_guide():
    pyro.sample("z", dist.Normal(param("loc", ONE), param("log_scale", ONE).exp()))


ONE = Program(
    {"loc": 0.3, "log_scale": 0.1, "slope": 0.6}, 1, 0, one_site_model, one_site_guide, one_site
)


# -- the same in a plate -----------------------------------------------------------------------------

SIZE = 3


def plate_model(batch=None):
    with pyro.plate("data", SIZE, subsample_size=batch, dim=-1) as i:
        z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
        loc = param("slope", ONE) * z
        pyro.sample("x", dist.Normal(loc, 0.7), obs=torch.full((len(i),), X, dtype=DOUBLE))


def plate_guide(batch=None):
    with pyro.plate("data", SIZE, subsample_size=batch, dim=-1):
        pyro.sample("z", dist.Normal(param("loc", ONE), param("log_scale", ONE).exp()))


PLATE = Program(ONE.initial, 1, 0, plate_model, plate_guide, one_site, copies=SIZE)


# -- two layers, the second of which is moved by the first ---------------------------------------------


def two_layers(p, eps, coins):
    z = p["a"] + p["s"].exp() * eps[0]
    v = p["a"] + p["c"] * z + 0.8 * eps[1]
    w = log_normal(z, number(0.0), 1.0) + log_normal(v, p["slope"] * z, 1.0)
    w = w + log_normal(number(X), v, 0.7)
    return w - log_normal(z, p["a"], p["s"].exp()) - log_normal(v, p["a"] + p["c"] * z, 0.8), w * 0


def two_layers_model():
    z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
    v = pyro.sample("v", dist.Normal(param("slope", TWO) * z, 1.0))
    pyro.sample("x", dist.Normal(v, 0.7), obs=number(X))


def two_layers_guide():
    a = param("a", TWO)
    z = pyro.sample("z", dist.Normal(a, param("s", TWO).exp()))
    pyro.sample("v", dist.Normal(a + param("c", TWO) * z, 0.8))


TWO = Program(
    {"a": 0.3, "c": 0.4, "s": 0.1, "slope": 0.5}, 2, 0, two_layers_model, two_layers_guide, two_layers
)


# -- coins before and after a normal site --------------------------------------------------------------


def mixed(p, eps, coins):
    b, d = coins
    z = p["a"] + p["c"] * b + p["s"].exp() * eps[0]
    q = log_coin(b, p["logit"]) + log_coin(d, p["gain"] * z)
    w = log_coin(b, number(-0.2)) + log_normal(z, b, 1.0) + log_coin(d, z)
    w = w + log_normal(number(X), p["slope"] * z + d, 0.7)
    return w - q - log_normal(z, p["a"] + p["c"] * b, p["s"].exp()), q


def mixed_model():
    b = pyro.sample("b", dist.Bernoulli(logits=number(-0.2)))
    z = pyro.sample("z", dist.Normal(b, number(1.0)))
    d = pyro.sample("d", dist.Bernoulli(logits=z))
    pyro.sample("x", dist.Normal(param("slope", MIXED) * z + d, 0.7), obs=number(X))


def mixed_guide():
    b = pyro.sample("b", dist.Bernoulli(logits=param("logit", MIXED)))
    loc = param("a", MIXED) + param("c", MIXED) * b
    z = pyro.sample("z", dist.Normal(loc, param("s", MIXED).exp()))
    pyro.sample("d", dist.Bernoulli(logits=param("gain", MIXED) * z))


MIXED = Program(
    {"logit": 0.4, "a": 0.1, "c": 0.5, "s": -0.2, "gain": 0.6, "slope": 0.7},
    1,
    2,
    mixed_model,
    mixed_guide,
    mixed,
)


# -- a Delta site that moves with a parameter and with a normal site ---------------------------------


def functions(p, eps, coins):
    u = p["a"] + 0.9 * eps[0]
    y = p["shift"] + u.exp()  # log density of y: that of u, less u
    v = p["c"] * y + 0.8 * eps[1]
    w = log_normal(y, number(1.0), 1.5) + log_normal(v, p["slope"] * y, 1.0)
    w = w + log_normal(number(X), v + 0.3 * y, 0.9)
    return w - log_normal(u, p["a"], 0.9) + u - log_normal(v, p["c"] * y, 0.8), w * 0


def functions_model():
    y = pyro.sample("y", dist.Normal(number(1.0), 1.5))
    v = pyro.sample("v", dist.Normal(param("slope", FUNCTIONS) * y, 1.0))
    pyro.sample("x", dist.Normal(v + 0.3 * y, 0.9), obs=number(X))


def functions_guide():
    u = pyro.sample("u", dist.Normal(param("a", FUNCTIONS), 0.9), infer={"is_auxiliary": True})
    y = pyro.sample("y", dist.Delta(param("shift", FUNCTIONS) + u.exp(), log_density=-u))
    pyro.sample("v", dist.Normal(param("c", FUNCTIONS) * y, 0.8))


FUNCTIONS = Program(
    {"a": -0.3, "shift": 0.2, "c": 0.5, "slope": 0.4},
    2,
    0,
    functions_model,
    functions_guide,
    functions,
)


# -- sites whose density is half, twice or not at all in the weight ----------------------------------


def tempered(p, eps, coins):
    b, d = coins
    z = p["a"] + p["s"].exp() * eps[0]
    w = log_normal(z, number(0.0), 1.0) + log_coin(b, number(-0.2)) + log_coin(d, number(0.3))
    w = w + log_normal(number(X), p["slope"] * z + b + d, 0.7)
    w = w - 0.5 * log_normal(z, p["a"], p["s"].exp()) - 2 * log_coin(b, p["twice"])
    return w, log_coin(b, p["twice"]) + log_coin(d, p["never"])


def tempered_model():
    z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
    b = pyro.sample("b", dist.Bernoulli(logits=number(-0.2)))
    d = pyro.sample("d", dist.Bernoulli(logits=number(0.3)))
    pyro.sample("x", dist.Normal(param("slope", TEMPERED) * z + b + d, 0.7), obs=number(X))


def tempered_guide():
    with pyro.poutine.scale(scale=0.5):
        pyro.sample("z", dist.Normal(param("a", TEMPERED), param("s", TEMPERED).exp()))
    with pyro.poutine.scale(scale=2.0):
        pyro.sample("b", dist.Bernoulli(logits=param("twice", TEMPERED)))
    pyro.sample("d", dist.Bernoulli(logits=param("never", TEMPERED)).mask(False))


TEMPERED = Program(
    {"a": 0.2, "s": -0.3, "twice": 0.4, "never": -0.6, "slope": 0.7},
    1,
    2,
    tempered_model,
    tempered_guide,
    tempered,
)


def drawn(elbo, program: Program, count: int, *args: object) -> Tensor:
    """Draws of the gradient, as rows in the order of :attr:`Program.initial`."""
    names = list(program.initial)
    sampler = Sampler(ElboCall(elbo, program.model, program.guide, args, {}))
    chunks = list(Draws(sampler, [n for n in names if n in sampler.parameters]).chunks(count))
    return torch.cat([torch.stack([c[name].reshape(-1) for name in names], 1) for c in chunks])


def elbo_of(word, num_particles=2, alpha=0.0, mode=True):
    return pre.ImportanceWeighted_ELBO(
        num_particles, word, alpha, vectorize_particles=mode, max_plate_nesting=2
    )
