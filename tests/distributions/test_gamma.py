"""Gamma at small concentrations, and as Pyro's."""

import mpmath
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


@pytest.mark.parametrize("score", [-2.0, 0.0, 2.5])
@pytest.mark.parametrize("a", [0.05, 0.6, 3.0, 7.9, 8.1, 60.0])
def test_second_derivatives(a, score):
    """Of x = Q(u, a) / rate at a fixed quantile u, by differences of it in 40 digits."""
    rate = 2.0
    x = stats.gamma(a, scale=1 / rate).ppf(stats.norm.cdf(score))
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (a, rate)]
    at = pathwise_at(Gamma(*leaves), torch.tensor(x, dtype=torch.float64))
    first = torch.autograd.grad(at, leaves, create_graph=True)
    second = torch.cat([torch.stack(torch.autograd.grad(g, leaves, retain_graph=True)) for g in first])
    with mpmath.workdps(40):
        y, h = mpmath.log(mpmath.mpf(x) * 2), mpmath.mpf("1e-8")
        log_u = log_cdf(a, y)
        up, down = (
            mpmath.findroot(
                lambda t, s=s: log_cdf(a + s, t) - log_u, (y, y + 1e-6), tol=1e-60, verify=False
            )
            for s in (h, -h)
        )
        slope = (mpmath.exp(up) - mpmath.exp(down)) / (2 * h)
        curvature = (mpmath.exp(up) - 2 * mpmath.exp(y) + mpmath.exp(down)) / h**2
    exact = [curvature / 2, -slope / 4, -slope / 4, mpmath.exp(y) / 4]
    exact = torch.tensor([float(v) for v in exact], dtype=torch.float64)
    # Near the median x is almost linear in a: terms of the size of this scale cancel.
    scale = float(slope**2 / mpmath.exp(y))
    torch.testing.assert_close(second, exact, rtol=1e-8, atol=1e-9 * scale)


def log_cdf(a, y):
    return mpmath.log(mpmath.gammainc(a, 0, mpmath.exp(y), regularized=True))


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


def test_far_out_in_float32():
    a = torch.tensor(2.0, requires_grad=True)
    x = torch.tensor([0.0, 1e-30, 1e3, 1e8, 1e16, 1e30])
    fn = Gamma(a, 1.0)
    (gradient,) = torch.autograd.grad(fn.cdf(x).sum(), a)
    assert gradient == 0
    for value in x[1:]:
        (gradient,) = torch.autograd.grad(fn.log_prob(value), a)
        torch.testing.assert_close(gradient, value.log() - torch.digamma(a.detach()))


def test_at_zero():
    zero = torch.tensor(0.0)
    assert Gamma(0.01, 1.0).cdf(zero) == 0
    for a in (0.5, 1.0, 2.0):
        torch.testing.assert_close(Gamma(a, 2.0).log_prob(zero), dist.Gamma(a, 2.0).log_prob(zero))
    a = torch.tensor(0.5, requires_grad=True)
    assert torch.autograd.grad(pathwise_at(Gamma(a, 1.0), zero), a)[0] == 0


def test_density_and_entropy_are_those_of_pyro():
    for a in (1e-3, 0.5, 3.0, 100.0):
        x = a * torch.tensor([0.2, 0.51, 0.9, 1.1, 3.0], dtype=torch.float64)
        given = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (a, 0.7)]
        ours, theirs = Gamma(*given), dist.Gamma(*given)
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
        torch.testing.assert_close(ours.entropy(), theirs.entropy())
        gradients = (torch.autograd.grad(fn.log_prob(x).sum(), given) for fn in (ours, theirs))
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("ratio", [0.999, 1.0, 1.002])
def test_density_of_large_concentrations_in_float32(ratio):
    a = torch.tensor(1e6)
    x = a * ratio
    ours, exact = Gamma(a, 1.0).log_prob(x), stats.gamma(1e6).logpdf(x.item())
    rounding = 1e6 * abs(ratio - 1) * 1.2e-7
    torch.testing.assert_close(ours.item(), float(exact), rtol=1e-6, atol=rounding)
    entropy = Gamma(a, 1.0).entropy()
    torch.testing.assert_close(entropy.item(), float(stats.gamma(1e6).entropy()), rtol=1e-6, atol=0)


def test_density_is_a_number_where_the_exponent_overflows():
    given = [torch.tensor(v, requires_grad=True) for v in (0.5, 1e10, 1e30)]
    density = Gamma(*given[:2]).log_prob(given[2])
    assert density < -1e37
    assert not any(g.isnan() for g in torch.autograd.grad(density, given))
