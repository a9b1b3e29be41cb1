"""Beta at small and at large concentrations, and as Pyro's."""

import mpmath
import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import pathwise_at

from ..statistics import assert_mean

Beta = pre.distributions.Beta


def test_share_of_draws_in_the_middle():
    """At 1e-3 all but 4e-4 of the mass lies at the ends."""
    fn = Beta(torch.tensor(1e-3), torch.tensor(1e-3))
    x = fn.sample((200_000, 1))
    exact = stats.beta(1e-3, 1e-3)
    expected = exact.cdf(0.6) - exact.cdf(0.4)
    assert_mean(((x > 0.4) & (x < 0.6)).double(), torch.tensor([expected]))


def test_gradient_of_the_mean_at_small_concentrations_in_float32():
    a, b = (torch.full((100_000,), 1e-3, requires_grad=True) for _ in range(2))
    x = Beta(a, b).rsample()
    for gradient, sign in zip(torch.autograd.grad(x.sum(), (a, b)), (1, -1), strict=True):
        assert_mean(gradient[:, None], torch.tensor([sign * 250.0]))


def test_gradient_of_both_logarithms_in_float32():
    """Although most draws are cut to the floats inside the interval, that of the logit is right."""
    a, b = torch.full((50_000,), 0.01, requires_grad=True), torch.tensor(0.02)
    x = Beta(a, b).rsample()
    (gradient,) = torch.autograd.grad(torch.logit(x).sum(), a)
    assert_mean(gradient[:, None] * 1e-4, torch.tensor([special.polygamma(1, 0.01) * 1e-4]))


@pytest.mark.parametrize("b", [0.5, 5.0, 70_000.0])
def test_backward_around_two_to_the_sixteen(b):
    a = torch.arange(2**16 + 900, 2**16 + 1200, 5, dtype=torch.float32, requires_grad=True)
    x = Beta(a, torch.tensor(b)).rsample((20,))
    (gradient,) = torch.autograd.grad((-x).log1p().sum(), a)
    assert gradient.isfinite().all()
    # log(1 - x) is nearly log G(b) - log a.
    torch.testing.assert_close(gradient * a / 20, -a.detach() / (a.detach() + b), rtol=0.2, atol=0)


def test_own_samples_have_a_finite_density_inside():
    for a in (1e-5, 1e-2, 1.0, 1e6):
        for b in (1e-5, 1e-2, 1.0, 1e6):
            fn = Beta(torch.tensor(a), torch.tensor(b))
            x = fn.sample((500,))
            assert ((x > 0) & (x < 1)).all()
            assert fn.log_prob(x).isfinite().all()


@pytest.mark.parametrize("score", [-1.5, 0.5, 2.0])
@pytest.mark.parametrize(("a", "b"), [(0.3, 0.5), (1.5, 0.8), (7.9, 8.1), (9.0, 30.0), (0.2, 9.0)])
def test_second_derivatives(a, b, score):
    """Of the quantile function at a fixed u, by differences of it in 40 digits."""
    x = stats.beta(a, b).ppf(stats.norm.cdf(score))
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (a, b)]
    at = pathwise_at(Beta(*leaves), torch.tensor(x, dtype=torch.float64))
    first = torch.autograd.grad(at, leaves, create_graph=True)
    second = torch.cat([torch.stack(torch.autograd.grad(g, leaves, retain_graph=True)) for g in first])
    with mpmath.workdps(40):
        x, h = mpmath.mpf(x), mpmath.mpf("1e-8")
        u = mpmath.betainc(a, b, 0, x, regularized=True)

        def quantile(i, j):
            p, q = a + i * h, b + j * h
            return mpmath.findroot(
                lambda t: mpmath.log(mpmath.betainc(p, q, 0, t, regularized=True) / u),
                (x, x * (1 + mpmath.mpf("1e-7"))),
                tol=1e-60,
                verify=False,
            )

        aa = (quantile(1, 0) - 2 * x + quantile(-1, 0)) / h**2
        bb = (quantile(0, 1) - 2 * x + quantile(0, -1)) / h**2
        corners = quantile(1, 1) - quantile(1, -1) - quantile(-1, 1) + quantile(-1, -1)
        ab = corners / (4 * h**2)
    exact = torch.tensor([float(v) for v in (aa, ab, ab, bb)], dtype=torch.float64)
    torch.testing.assert_close(second, exact, rtol=1e-7, atol=1e-7 * float(exact.abs().max()))


def test_pathwise_at_a_value():
    a, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, 6.0))
    x = pathwise_at(Beta(a, b), torch.tensor(0.15, dtype=torch.float64))
    da, db = torch.autograd.grad(x, (a, b))
    u, h = special.betainc(0.4, 6.0, 0.15), 1e-5
    slope_a = (special.betaincinv(0.4 + h, 6, u) - special.betaincinv(0.4 - h, 6, u)) / (2 * h)
    slope_b = (special.betaincinv(0.4, 6 + h, u) - special.betaincinv(0.4, 6 - h, u)) / (2 * h)
    torch.testing.assert_close(da.item(), slope_a, rtol=1e-6, atol=0)
    torch.testing.assert_close(db.item(), slope_b, rtol=1e-6, atol=0)


def test_stays_a_beta_of_pyro():
    p, q = Beta(torch.tensor(2.0), 1.0), dist.Beta(torch.tensor(3.0), 0.5)
    assert isinstance(p, dist.Beta)
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(dist.Beta(2.0, 1.0), q))
    torch.testing.assert_close(p.entropy(), dist.Beta(2.0, 1.0).entropy())


def test_density_is_that_of_pyro():
    a, b = (torch.tensor(v, dtype=torch.float64) for v in (2.0, 0.3))
    x = torch.rand(20, dtype=torch.float64)
    torch.testing.assert_close(Beta(a, b).log_prob(x), dist.Beta(a, b).log_prob(x))


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.5, 2.0), (1.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
def test_at_the_ends(a, b, value):
    value = torch.tensor(value)
    torch.testing.assert_close(Beta(a, b).log_prob(value), dist.Beta(a, b).log_prob(value))
    given = torch.tensor([a, b], requires_grad=True)
    (gradient,) = torch.autograd.grad(pathwise_at(Beta(*given), value), given)
    assert (gradient == 0).all()


def test_density_of_large_concentrations_in_float32():
    a = torch.tensor(1e5)
    for x in (0.5, 0.501):
        ours = Beta(a, a).log_prob(torch.tensor(x)).item()
        exact = float(stats.beta(1e5, 1e5).logpdf(torch.tensor(x).item()))
        torch.testing.assert_close(ours, exact, rtol=2e-3 * (x != 0.5) + 1e-6, atol=0)


def test_second_derivative_of_the_cdf():
    x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    cdf = Beta(torch.tensor(2.0).double(), torch.tensor(3.0).double()).cdf(x)
    (density,) = torch.autograd.grad(cdf, x, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(density, x)[0].item(), 0.84, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("a", "b", "mode"),
    [
        (0.3, 0.6, 0.0),
        (0.6, 0.3, 1.0),
        (0.5, 1.0, 0.0),
        (1.0, 0.5, 1.0),
        (0.5, 3.0, 0.0),
        (3.0, 2.0, 2 / 3),
    ],
)
def test_mode_at_the_higher_end(a, b, mode):
    assert float(Beta(torch.tensor(a).double(), b).mode) == pytest.approx(mode, rel=1e-15)
