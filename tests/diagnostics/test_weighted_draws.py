"""Importance weights, against the log densities of the draws."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from pyro_reparam_ext.diagnostics.guide_draws import guide_draws
from pyro_reparam_ext.diagnostics.weighted_draws import weighted_draws

from .programs import DATA, grouped


def weighted(model, guide, *args, num_samples=40):
    options = {"num_samples": num_samples, "max_plate_nesting": math.inf, "progress": False}
    return weighted_draws(guide_draws(model, guide, args, {}, **options), num_samples)


def guide(x):
    mean = pyro.sample("mean", dist.Normal(0.2, 0.7))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.5 * mean, 0.8))


def test_weights_are_those_of_the_densities():
    found = weighted(grouped, guide, DATA)
    mean, z = found.sites["mean"].values, found.sites["z"].values
    own = dist.Normal(mean, 1.0).log_prob(z.T) + dist.Normal(z.T, 1.0).log_prob(DATA[:, None])
    own = (own - dist.Normal(0.5 * mean, 0.8).log_prob(z.T)).T
    outer = dist.Normal(0.0, 1.0).log_prob(mean) - dist.Normal(0.2, 0.7).log_prob(mean)
    assert list(found.local) == ["data"]
    assert torch.allclose(torch.as_tensor(found.local["data"]).float(), own, atol=1e-5)
    assert torch.allclose(torch.as_tensor(found.log_weights).float(), own.sum(1) + outer, atol=1e-4)


def test_the_loop_has_the_same_weights():
    def read(x):
        mean = pyro.sample("mean", dist.Normal(0.2, 0.7))
        assert isinstance(float(mean), float)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.5 * mean, 0.8))

    with pytest.warns(UserWarning, match="one by one"):
        found = weighted(grouped, read, DATA)
    mean, z = found.sites["mean"].values, found.sites["z"].values
    own = dist.Normal(mean, 1.0).log_prob(z.T) + dist.Normal(z.T, 1.0).log_prob(DATA[:, None])
    own = (own - dist.Normal(0.5 * mean, 0.8).log_prob(z.T)).T
    outer = dist.Normal(0.0, 1.0).log_prob(mean) - dist.Normal(0.2, 0.7).log_prob(mean)
    assert torch.allclose(torch.as_tensor(found.log_weights).float(), own.sum(1) + outer, atol=1e-4)


def summed(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x.sum())


def alone(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    "model, make, plates",
    [
        (grouped, AutoNormal, ["data"]),
        (grouped, AutoMultivariateNormal, []),
        (summed, lambda model: alone, []),
        (summed, AutoNormal, []),
        (alone, lambda model: alone, ["data"]),
    ],
    ids=["autonormal", "joint", "sum", "sum autonormal", "alone"],
)
def test_elements_have_weights_where_the_program_factorises(model, make, plates):
    assert list(weighted(model, make(model), DATA).local) == plates
