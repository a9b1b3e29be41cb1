"""Gamma at small concentrations, and as Pyro's."""

import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import pathwise_at

from ..statistics import assert_mean

Gamma = pre.distributions.Gamma
TINY = torch.finfo(torch.float32).tiny


def test_share_of_draws_at_the_smallest_float():
    x = Gamma(torch.tensor(0.01), torch.tensor(1.0)).sample((50_000, 1))
    assert_mean((x <= TINY).double(), torch.tensor([stats.gamma(0.01).cdf(TINY)]))


@pytest.mark.parametrize("a", [0.001, 0.01])
def test_gradient_of_the_mean_logarithm_in_float32(a):
    """trigamma(a): 1e4 at 0.01, although many draws are cut to the smallest float."""
    concentration = torch.full((50_000,), a, requires_grad=True)
    x = Gamma(concentration, 1.0).rsample()
    (gradient,) = torch.autograd.grad(x.log().sum(), concentration)
    assert_mean(gradient[:, None] * a**2, torch.tensor([special.polygamma(1, a) * a**2]))


def test_gradient_of_the_mean_logarithm_in_the_rate():
    rate = torch.tensor(3.0, requires_grad=True)
    x = Gamma(0.01, rate).rsample((100,))
    (gradient,) = torch.autograd.grad(x.log().mean(), rate)
    torch.testing.assert_close(gradient, torch.tensor(-1 / 3))


def test_second_derivative():
    """d^2 x / da^2 at a fixed quantile, by differences of scipy's."""
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    x = Gamma(a, torch.tensor(2.0).double()).rsample()
    (first,) = torch.autograd.grad(x, a, create_graph=True)
    (second,) = torch.autograd.grad(first, a)
    u, h = stats.gamma(1.5, scale=0.5).cdf(x.item()), 1e-3
    low, middle, high = (special.gammaincinv(1.5 + s, u) / 2 for s in (-h, 0, h))
    torch.testing.assert_close(second.item(), (high - 2 * middle + low) / h**2, rtol=1e-4, atol=1e-6)


def test_pathwise_at_a_value():
    a, rate = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, 2.0))
    x = pathwise_at(Gamma(a, rate), torch.tensor(0.05, dtype=torch.float64))
    da, drate = torch.autograd.grad(x, (a, rate))
    u, h = special.gammainc(0.3, 0.1), 1e-5
    slope = (special.gammaincinv(0.3 + h, u) - special.gammaincinv(0.3 - h, u)) / (4 * h)
    torch.testing.assert_close(da.item(), slope, rtol=1e-6, atol=0)
    torch.testing.assert_close(drate.item(), -0.025)


def test_stays_a_gamma_of_pyro():
    p, q = Gamma(torch.tensor(2.0), 1.0), dist.Gamma(torch.tensor(3.0), 0.5)
    assert isinstance(p, dist.Gamma)
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(dist.Gamma(2.0, 1.0), q))


def test_own_samples_have_a_finite_density():
    for a in (1e-5, 1e-2, 1.0, 1e6):
        fn = Gamma(torch.tensor(a), torch.tensor(1.0))
        assert fn.log_prob(fn.sample((1000,))).isfinite().all()
