"""Calls that torch's or Pyro's class of the same name takes, given to ours."""

import inspect
import math

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from .registry import CLASSES

NAMESAKES = sorted(
    name
    for name in CLASSES
    if hasattr(dist, name) and "validate_args" in inspect.signature(getattr(dist, name)).parameters
)


@pytest.mark.parametrize("name", NAMESAKES)
def test_positions_are_those_of_the_namesake(name):
    ours, theirs = (
        [p for p in inspect.signature(getattr(library, name)).parameters.values()]
        for library in (pre.distributions, dist)
    )
    positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [p.name for p in theirs]


@pytest.mark.parametrize("name", NAMESAKES)
def test_public_methods_are_those_of_the_namesake(name):
    public = {x for x in dir(getattr(dist, name)) if not x.startswith("_")}
    # Of a transformed distribution, or set by the constructor.
    missing = public - set(dir(getattr(pre.distributions, name))) - {"clear_cache", "temperature"}
    assert not missing


def test_validate_args_by_position():
    fn = pre.distributions.Kumaraswamy(2.0, 3.0, False)
    assert not fn._validate_args
    relaxed = pre.distributions.RelaxedBernoulli(torch.tensor(0.5), torch.tensor(0.3), None, True)
    assert relaxed._validate_args


def test_lims_of_a_continuous_bernoulli_change_nothing():
    x = torch.tensor([0.2, 0.9])
    plain = pre.distributions.ContinuousBernoulli(torch.tensor(0.4995))
    given = pre.distributions.ContinuousBernoulli(torch.tensor(0.4995), None, (0.4, 0.6), False)
    torch.testing.assert_close(given.expand((2,)).log_prob(x), plain.log_prob(x), rtol=0, atol=0)


@pytest.mark.parametrize("concentration", [-0.7, -1.5, 0.0, 0.4])
def test_log_cdf_of_a_generalized_pareto(concentration):
    c = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
    fn = pre.distributions.GeneralizedPareto(1.0, 2.0, c, False)
    x = torch.tensor([0.0, 1.0, 1.0 + 1e-12, 1.5, 2.2, 50.0], dtype=torch.float64)
    log_cdf = fn.log_cdf(x)
    torch.testing.assert_close(log_cdf.exp(), fn.cdf(x))
    assert (log_cdf[:2] == -math.inf).all()
    assert log_cdf[2].item() == pytest.approx(math.log(5e-13), rel=1e-3)
    assert torch.autograd.grad(log_cdf[2:].sum(), c)[0].isfinite()
