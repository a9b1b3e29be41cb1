"""Warnings name the line of the user, however deep in the libraries they are given."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam

import pyro_reparam_ext as pre
from pyro_reparam_ext.callers import outside


def test_level_of_the_caller_itself():
    assert outside() == 1


def model():
    z = pyro.sample("z", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(z if z.item() else -z, 1.0), obs=torch.tensor(0.5))


def guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.2))))


def of_the_elbo():
    pre.TraceEstimator_ELBO(pre.LocalExpectation()).loss_and_grads(model, guide)


def of_svi():
    SVI(model, guide, Adam({"lr": 0.1}), pre.TraceEstimator_ELBO(pre.LocalExpectation())).step()


@pytest.mark.parametrize("call", [of_the_elbo, of_svi])
def test_line_that_called_the_library(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.lineno == call.__code__.co_firstlineno + 1
