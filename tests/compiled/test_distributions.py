"""Every distribution of the package in a captured step: the eager step's numbers."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_reparam_ext as pre

from ..distributions.registry import BY_CLASS, RELAXED
from ..distributions.relaxed import logits_of
from ..slow import one_in
from .steps import assert_same_steps


def leaf(name, x):
    """A parameter near ``x``, without a constraint: two small steps stay in range."""
    return pyro.param(name, x.clone())


def inside(fn_class, name, x):
    """The same on a sphere, if it has to be."""
    x = leaf(name, x)
    on_sphere = pre.distributions.VonMisesFisher, pre.distributions.PowerSpherical
    return x / x.norm() if issubclass(fn_class, on_sphere) and name == "loc" else x


@pytest.mark.parametrize("name", one_in(4, BY_CLASS))
def test_continuous(name):
    entry = BY_CLASS[name]
    point = {k: torch.tensor(x, dtype=torch.float64) for k, x in entry.points[entry.typical].items()}

    kind = type(entry.make(**point))

    def guide():
        pyro.sample("z", entry.make(**{key: inside(kind, key, x) for key, x in point.items()}))

    def model():
        fn = entry.make(**point)
        z = pyro.sample("z", fn)
        pyro.factor("x", -(z.reshape(-1) - 0.3).square().sum())

    assert_same_steps(lambda: (model, guide, Trace_ELBO()), count=3, optim=small, tolerance=1e-7)


def small():
    return pyro.optim.SGD({"lr": 1e-4})


@pytest.mark.parametrize("name", one_in(3, (name for name in RELAXED if RELAXED[name].log_prob)))
def test_relaxed(name):
    entry = RELAXED[name]

    def guide():
        temperature = torch.tensor(0.5, dtype=torch.float64)
        pyro.sample("z", entry.make(temperature, leaf("logits", logits_of(entry.event))))

    def model():
        z = pyro.sample("z", entry.at_temperature(0.7))
        pyro.factor("x", -(z.reshape(-1) - 0.3).square().sum())

    assert_same_steps(lambda: (model, guide, Trace_ELBO()), count=3, optim=small, tolerance=1e-7)


TORCH = {
    "Gamma": lambda p: dist.Gamma(p.exp(), 1.0),
    "Beta": lambda p: dist.Beta(p.exp(), 2.0),
    "Dirichlet": lambda p: dist.Dirichlet(p.exp().expand(3)),
    "StudentT": lambda p: dist.StudentT(3.0, p, 1.0),
    "LogNormal": lambda p: dist.LogNormal(p, 0.5),
    "MultivariateNormal": lambda p: dist.MultivariateNormal(p.expand(2), torch.eye(2)),
    "LowRankMultivariateNormal": lambda p: dist.LowRankMultivariateNormal(
        p.expand(2), torch.ones(2, 1), torch.ones(2)
    ),
    "Weibull": lambda p: dist.Weibull(p.exp(), 2.0),
    "Uniform": lambda p: dist.Uniform(p - 3.0, p + 3.0),
}


@pytest.mark.parametrize("name", one_in(4, TORCH))
def test_of_torch(name):
    def model():
        z = pyro.sample("z", TORCH[name](torch.tensor(0.1)))
        pyro.factor("x", -(z - 0.3).square().sum())

    def guide():
        pyro.sample("z", TORCH[name](leaf("p", torch.tensor(0.2))))

    assert_same_steps(lambda: (model, guide, Trace_ELBO()), count=3, optim=small)
