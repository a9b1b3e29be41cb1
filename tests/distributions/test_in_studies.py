"""Distributions of the package in the gradient study: batched, and unbiased by default."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

DTYPE = torch.float64

SITES = {
    "VonMises": lambda a: pre.distributions.VonMises(torch.zeros((), dtype=DTYPE), a),
    "Gamma": lambda a: pre.distributions.Gamma(a, torch.ones((), dtype=DTYPE)),
    "TruncatedNormal": lambda a: pre.distributions.TruncatedNormal(a, 1.0, 0.0, 2.0),
    "MixtureSameFamily": lambda a: pre.distributions.MixtureSameFamily(
        dist.Categorical(logits=torch.stack([a, 1 - a], -1)),
        dist.Normal(torch.tensor([0.0, 2.0], dtype=DTYPE), 1.0),
    ),
}


@pytest.mark.parametrize("name", SITES)
def test_pathwise_by_default_and_batched(name):
    make = SITES[name]
    prior = make(torch.tensor(1.5, dtype=DTYPE))

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", dist.Normal(x.cos(), 1.0), obs=torch.tensor(0.3, dtype=DTYPE))

    def guide():
        pyro.sample("x", make(pyro.param("a", torch.tensor(1.1, dtype=DTYPE))))

    study = pre.gradient_study(
        model,
        guide,
        estimators={"default": None, "score function": pre.ScoreFunction()},
        num_draws=2000,
        progress=False,
    )
    summary = study.summary()
    assert summary.batched.all()
    assert summary.unbiased.all()
    assert (summary.bias_z < 5).all()
    assert summary.variance["default"] < summary.variance["score function"]
