"""LogBeta."""

import pyro.distributions as dist
import torch
from scipy import special
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.numerics.log1mexp import log1mexp

from ..statistics import assert_mean

LogBeta = pre.distributions.LogBeta


def test_both_ends_in_float32():
    """E[log x] with its gradient where x underflows, and E[log(1 - x)] where 1 - x is below 1e-8."""
    a = torch.full((50_000,), 0.001, requires_grad=True)
    y = LogBeta(a, 2.0).rsample()
    assert y.detach().min() < -1000
    (gradient,) = torch.autograd.grad(y.sum(), a)
    slope = special.polygamma(1, 0.001) - special.polygamma(1, 2.001)
    assert_mean(gradient[:, None] * 1e-6, torch.tensor([slope * 1e-6]))
    b = torch.full((50_000,), 0.1, requires_grad=True)
    y = LogBeta(2.0, b).rsample()
    assert y.detach().max() > -1e-30
    log_rest = log1mexp(y)
    assert_mean(
        (log_rest[:, None] > -20).double(), torch.tensor([special.betaincc(0.1, 2.0, 2.0611536e-9)])
    )


def test_gradient_of_the_upper_end_in_float32():
    b = torch.full((50_000,), 0.5, requires_grad=True)
    log_rest = log1mexp(LogBeta(2.0, b).rsample())
    (gradient,) = torch.autograd.grad(log_rest.sum(), b)
    slope = special.polygamma(1, 0.5) - special.polygamma(1, 2.5)
    assert_mean(gradient[:, None], torch.tensor([slope]))


def test_cdf_where_x_underflows():
    cdf = LogBeta(torch.tensor(1e-4), torch.tensor(2.0)).cdf(torch.tensor(-1e4))
    expected = torch.tensor(-1.0).exp() / 1e-4 / special.beta(1e-4, 2.0)
    torch.testing.assert_close(cdf, expected, rtol=1e-5, atol=0)


def test_kl_against_its_definition():
    p = LogBeta(torch.tensor(0.9).double(), torch.tensor(2.0).double())
    q = LogBeta(torch.tensor(1.7).double(), torch.tensor(3.0).double())
    y = -torch.linspace(-40, 4, 200_001).double().exp()
    integrand = p.log_prob(y).exp() * (p.log_prob(y) - q.log_prob(y)) * -y
    expected = torch.trapezoid(integrand, torch.linspace(-40, 4, 200_001).double())
    torch.testing.assert_close(kl_divergence(p, q), expected, rtol=1e-6, atol=0)


def test_large_concentrations_in_float32():
    """-1 / a and 1 / a^2 at b = 1."""
    fn = LogBeta(1e6, 1.0)
    torch.testing.assert_close(fn.mean.item(), -1e-6, rtol=1e-5, atol=0)
    torch.testing.assert_close(fn.variance.item(), 1e-12, rtol=1e-5, atol=0)
    a, b = torch.tensor(1e6).double(), torch.tensor(2.0).double()
    exact = dist.Beta(a, b).entropy() - (torch.digamma(a) - torch.digamma(a + b))
    torch.testing.assert_close(LogBeta(1e6, 2.0).entropy().double(), exact, rtol=1e-6, atol=0)


def test_kl_and_entropy_are_those_of_the_variable():
    given = [torch.tensor(v, dtype=torch.float64) for v in (0.3, 50.0, 1.3, 2.0)]
    p, q = LogBeta(*given[:2]), LogBeta(*given[2:])
    twins = dist.Beta(*given[:2]), dist.Beta(*given[2:])
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(*twins))
    torch.testing.assert_close(p.entropy(), twins[0].entropy() - p.mean)


def test_second_derivative_of_the_cdf():
    """The slope of 12 x^2 (1 - x)^2 along log x."""
    x = 0.3
    y = torch.tensor(x, dtype=torch.float64).log().requires_grad_()
    cdf = LogBeta(torch.tensor(2.0).double(), torch.tensor(3.0).double()).cdf(y)
    (density,) = torch.autograd.grad(cdf, y, create_graph=True)
    slope = 24 * x**2 * (1 - x) * (1 - 2 * x)
    torch.testing.assert_close(torch.autograd.grad(density, y)[0].item(), slope, rtol=1e-9, atol=0)
