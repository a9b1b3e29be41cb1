"""LogBeta."""

import torch
from scipy import special
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.numerics.log1mexp import log1mexp

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
