"""A given value, moving with the parameters of a distribution of torch or Pyro."""

import math

import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre

from ..entry import tensors
from ..oracle import Univariate

NORMAL_LIKE = {"loc": 0.3, "scale": 1.4}

CASES = {
    "Normal": (dist.Normal, NORMAL_LIKE, stats.norm),
    "Laplace": (dist.Laplace, NORMAL_LIKE, stats.laplace),
    "Cauchy": (dist.Cauchy, NORMAL_LIKE, stats.cauchy),
    "Gumbel": (dist.Gumbel, NORMAL_LIKE, stats.gumbel_r),
    "Logistic": (dist.Logistic, NORMAL_LIKE, stats.logistic),
    "Uniform": (
        dist.Uniform,
        {"low": -1.0, "high": 2.0},
        lambda low, high: stats.uniform(low, high - low),
    ),
    "Exponential": (dist.Exponential, {"rate": 0.7}, lambda rate: stats.expon(scale=1 / rate)),
    "Gamma": (
        dist.Gamma,
        {"concentration": 1.3, "rate": 0.7},
        lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    ),
    "Beta": (
        dist.Beta,
        {"concentration1": 1.3, "concentration0": 2.7},
        lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
    ),
    "LogNormal": (
        dist.LogNormal,
        NORMAL_LIKE,
        lambda loc, scale: stats.lognorm(s=scale, scale=math.exp(loc)),
    ),
    "StudentT": (
        dist.StudentT,
        {"df": 3.5, **NORMAL_LIKE},
        lambda df, loc, scale: stats.t(df, loc=loc, scale=scale),
    ),
    "AsymmetricLaplace": (
        dist.AsymmetricLaplace,
        {**NORMAL_LIKE, "asymmetry": 1.6},
        lambda loc, scale, asymmetry: stats.laplace_asymmetric(asymmetry, loc=loc, scale=scale),
    ),
    "Weibull": (
        dist.Weibull,
        {"scale": 1.2, "concentration": 1.7},
        lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
    ),
    "HalfCauchy": (
        dist.HalfCauchy,
        {"scale": 1.2},
        lambda scale: stats.halfcauchy(scale=scale),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_velocity(case):
    make, parameters, frozen = CASES[case]
    oracle = Univariate(frozen)
    leaves = {k: x.expand(20).clone().requires_grad_() for k, x in tensors(parameters).items()}
    fn = make(**leaves)
    value = fn.sample()
    moving = pre.distributions.pathwise_at(fn, value)
    torch.testing.assert_close(moving.detach(), value)
    for k, g in zip(leaves, torch.autograd.grad(moving.sum(), list(leaves.values())), strict=True):
        torch.testing.assert_close(g, oracle.velocity(value, parameters, k), rtol=1e-4, atol=1e-4)


def test_by_cdf_no_second_derivative():
    scale = torch.tensor(1.2, requires_grad=True)
    fn = OnlyCDF(scale)
    value = pre.distributions.pathwise_at(fn, torch.tensor(0.7))
    (g,) = torch.autograd.grad(value, scale, create_graph=True)
    assert g.item() == pytest.approx(0.7 / 1.2, rel=1e-5)
    with pytest.raises(RuntimeError, match="second time"):
        g.backward()


class OnlyCDF(dist.TorchDistribution):
    arg_constraints = {"scale": dist.constraints.positive}
    support = dist.constraints.positive

    def __init__(self, scale):
        self.scale = scale
        super().__init__(scale.shape)

    def cdf(self, value):
        return 1 - torch.exp(-value / self.scale)

    def log_prob(self, value):
        return -value / self.scale - self.scale.log()


@pytest.mark.parametrize("wrap", [lambda fn: fn.to_event(1), lambda fn: fn.mask(True)])
def test_looks_through_wrappers(wrap):
    scale = torch.ones(2, requires_grad=True)
    fn = wrap(dist.Normal(torch.zeros(2), scale))
    pre.distributions.pathwise_at(fn, torch.tensor([1.0, 3.0])).sum().backward()
    assert scale.grad.tolist() == [1.0, 3.0]


def test_says_what_is_missing():
    fn = dist.Stable(1.5, torch.zeros(2))
    with pytest.raises(NotImplementedError, match="Stable.*register_pathwise"):
        pre.distributions.pathwise_at(fn, torch.zeros(2))
