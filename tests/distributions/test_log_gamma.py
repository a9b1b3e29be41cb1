"""LogGamma."""

import pyro.distributions as dist
import torch
from scipy import special
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.log_gamma import standard_gamma

from ..statistics import assert_mean

LogGamma = pre.distributions.LogGamma


def test_small_concentrations_in_float32():
    """Where x underflows: E[y] = digamma(a), dE[y]/da = trigamma(a) = 1e8."""
    a = torch.full((100_000,), 1e-4, requires_grad=True)
    y = LogGamma(a, 1.0).rsample()
    assert_mean(y[:, None], torch.tensor([special.digamma(1e-4)]))
    (gradient,) = torch.autograd.grad(y.sum(), a)
    assert_mean(gradient[:, None] * 1e-8, torch.tensor([special.polygamma(1, 1e-4) * 1e-8]))


def test_kl_against_its_definition():
    p = LogGamma(torch.tensor(0.4).double(), torch.tensor(2.0).double())
    q = LogGamma(torch.tensor(1.7).double(), torch.tensor(0.6).double())
    y = torch.linspace(-90, 6, 400_001).double()
    integrand = p.log_prob(y).exp() * (p.log_prob(y) - q.log_prob(y))
    torch.testing.assert_close(kl_divergence(p, q), torch.trapezoid(integrand, y), rtol=1e-7, atol=0)


def test_entropy_of_large_concentrations_in_float32():
    """Nearly normal, of variance 1 / a."""
    entropy = LogGamma(torch.tensor(1e6), torch.tensor(3.0)).entropy()
    expected = 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e / 1e6))
    torch.testing.assert_close(entropy, expected, rtol=1e-6, atol=0)


def test_standard_gamma_is_raised_only_below_one():
    value, log_scale = standard_gamma(torch.tensor([0.01, 1.0, 5.0]), torch.Size((1000, 3)))
    assert (log_scale[:, 0] < 0).any() and (log_scale[:, 1:] == 0).all()
    assert value.min() > 1e-8


def test_density_far_out_in_float32():
    a, rate, y = (torch.tensor(v, requires_grad=True) for v in (2.0, 1.0, 100.0))
    da, drate, dy = torch.autograd.grad(LogGamma(a, rate).log_prob(y), (a, rate, y))
    torch.testing.assert_close(da.item(), 100 - special.digamma(2.0), rtol=1e-6, atol=0)
    assert drate == dy == -torch.inf


def test_kl_of_large_concentrations_in_float32():
    p, q = LogGamma(1e4, 1.0), LogGamma(1.01e4, 1.0)
    exact = [dist.Gamma(torch.tensor(a).double(), 1.0) for a in (1e4, 1.01e4)]
    torch.testing.assert_close(kl_divergence(p, q).double(), kl_divergence(*exact), rtol=1e-4, atol=0)
