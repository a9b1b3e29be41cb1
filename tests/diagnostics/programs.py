"""Programs whose posterior is known, and guides that stand in a known relation to it."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions.constraints import positive

RHO = 0.95


def correlated():
    """Two coordinates of correlation ``RHO``; there are no data."""
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]])
    pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), covariance))


def full_rank():
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]])
    pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), covariance))


def mean_field(start=0.0, scale=(1 - RHO**2) ** 0.5):
    """The best of independent coordinates, if it is at its ``start``."""

    def guide():
        loc = pyro.param("loc", torch.tensor([start, 0.0]))
        sd = pyro.param("sd", torch.full((2,), scale), constraint=positive)
        pyro.sample("z", dist.Normal(loc, sd).to_event(1))

    return guide


def funnel(name="x"):
    """Neal's funnel."""
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("rows", 9):
        pyro.sample(name, dist.Normal(0.0, (v / 2).exp()))


DATA = torch.tensor([0.3, -1.2, 0.8, 2.0, -0.4, 0.1, 1.1, -0.9])


def grouped(x):
    """A mean, and for each datum a value of its own around it."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def posterior_of_grouped(x, sd=None):
    """The exact posterior of ``grouped``, but for the sds of ``z`` if they are given."""
    precision = 1 + len(x) / 2
    mean = pyro.sample("mean", dist.Normal(x.sum() / 2 / precision, precision**-0.5))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal((mean + x) / 2, 0.5**0.5 if sd is None else sd))


def spike_and_slab():
    s = pyro.sample("s", dist.Bernoulli(0.5))
    z = pyro.sample("z", dist.Normal(0.0, torch.where(s > 0, 2.0, 0.2)))
    pyro.sample("y", dist.Normal(z, 0.5), obs=torch.tensor(1.2))


def on_the_spike():
    """Where training by the ELBO ends: odds by the expected log densities of ``z``."""
    pyro.sample("s", dist.Bernoulli(0.22))
    pyro.sample("z", dist.Normal(0.21, 0.2))
