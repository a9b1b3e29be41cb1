"""GeneralizedPareto: through c = 0, at upper ends, and tails that overflow."""

import math

import mpmath
import pyro
import pytest
import torch
from scipy import integrate, stats

import pyro_reparam_ext as pre

from ..statistics import assert_follows, assert_mean

GeneralizedPareto = pre.distributions.GeneralizedPareto
CONCENTRATIONS = [-10.0, -1.0, -0.3, -0.01, -1e-6, -1e-20, 0.0, 1e-20, 1e-6, 1e-3, 0.3, 1.0, 10.0]
dtypes = pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 5e-6)]
)


def leaf(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype, requires_grad=True)


def test_gradient_at_zero_concentration():
    """d/dc E[tanh x] = .106 at c = 0: the mean of sech(e)^2 e^2 / 2 over exponential e."""
    exact, _ = integrate.quad(lambda e: math.exp(-e) / math.cosh(e) ** 2 * e**2 / 2, 0, 40)
    assert exact == pytest.approx(0.106, abs=5e-4)
    c = torch.zeros(20_000, dtype=torch.float64, requires_grad=True)
    value = GeneralizedPareto(0.0, 1.0, c).rsample()
    (velocity,) = torch.autograd.grad(value.sum(), c)
    torch.testing.assert_close(velocity, 0.5 * value.detach() ** 2)
    (samples,) = torch.autograd.grad(GeneralizedPareto(0.0, 1.0, c).rsample().tanh().sum(), c)
    assert_mean(samples[:, None], torch.tensor([exact]))


def quotient(numerator, denominator, limit):
    return numerator / denominator if abs(denominator) > 1e-25 else limit


@dtypes
def test_against_mpmath(dtype, precision):
    """log_prob, cdf, icdf and their derivatives, of draws from 1e-6 to the far tail."""
    for c0 in CONCENTRATIONS:
        for quantile in (1e-6, 0.05, 0.07, 0.3, 2.0, 10.0):
            c = leaf(c0, dtype)
            fn = GeneralizedPareto(torch.zeros((), dtype=dtype), 1.0, c)
            with mpmath.workdps(60):
                k, e = mpmath.mpf(c.item()), mpmath.mpf(quantile)
                x = leaf(float(quotient(mpmath.expm1(k * e), k, e)), dtype)
                z = mpmath.mpf(x.item())
                s = k * z
                if 1 + s < 1e-3 or mpmath.isinf(z):
                    continue  # the value no longer holds the distance to the upper end, or overflows
                e = quotient(mpmath.log1p(s), k, z)
                velocity = quotient((1 + s) * mpmath.log1p(s) - s, k**2, z**2 / 2)
                inner = -z / (1 + s) + velocity / (1 + s)
                exact = {
                    "log_prob": -mpmath.log1p(s) - e,
                    "d log_prob / dc": inner,
                    "d log_prob / dx": -(k + 1) / (1 + s),
                    "cdf": -mpmath.expm1(-e),
                    "dx / dc": velocity,
                }
            log_prob = fn.log_prob(x)
            d_c, d_x = torch.autograd.grad(log_prob, [c, x])
            (moved,) = torch.autograd.grad(fn._at(x.detach()), c)
            got = dict(zip(exact, (log_prob, d_c, d_x, fn.cdf(x), moved), strict=True))
            for name, expected in exact.items():
                scale = abs(expected)
                if "log_prob" in name:  # a difference
                    scale = max(scale, 0.1 * z / (1 + s))
                if name == "d log_prob / dx":
                    scale = (1 + abs(k)) / (1 + s)
                loss = 1 if "/ dc" in name or s > -0.5 else 1 / (1 + s)
                error = abs(got[name].item() - expected)
                assert error <= precision * loss * scale + 1e-30, (name, c0, quantile)


@dtypes
def test_quantiles_and_their_derivatives(dtype, precision):
    for c0 in CONCENTRATIONS:
        for u0 in (1e-6, 0.05, 0.5, 0.999):
            c, u = leaf(c0, dtype), leaf(u0, dtype)
            q = GeneralizedPareto(torch.zeros((), dtype=dtype), 1.0, c).icdf(u)
            d_c, d_u = torch.autograd.grad(q, [c, u])
            with mpmath.workdps(60):
                k, e = mpmath.mpf(c.item()), -mpmath.log1p(-mpmath.mpf(u.item()))
                exact = quotient(mpmath.expm1(k * e), k, e)
                slope = quotient(k * e * mpmath.exp(k * e) - mpmath.expm1(k * e), k**2, e**2 / 2)
                density = mpmath.exp((k + 1) * e)
            assert abs(q.item() / exact - 1) < precision, (c0, u0)
            assert abs(d_c.item() / slope - 1) < 10 * precision, (c0, u0)
            assert abs(d_u.item() - density) < 10 * precision * max(1, density), (c0, u0)


def test_support_depends_on_the_parameters():
    fn = GeneralizedPareto(1.0, 2.0, torch.tensor([-0.5, 0.5]))
    assert fn.support.check(torch.tensor(5.0)).tolist() == [True, True]
    assert fn.support.check(torch.tensor(5.1)).tolist() == [False, True]
    assert fn.support.check(torch.tensor(0.9)).tolist() == [False, False]
    loose = GeneralizedPareto(1.0, 2.0, torch.tensor([-0.5, 0.5]), validate_args=False)
    assert loose.log_prob(torch.tensor(5.1)).isinf().tolist() == [True, False]
    torch.testing.assert_close(loose.cdf(torch.tensor(5.1))[0], torch.tensor(1.0))
    torch.testing.assert_close(loose.cdf(torch.tensor(0.0)), torch.zeros(2))


def test_moments_where_they_do_not_exist():
    fn = GeneralizedPareto(0.0, 1.0, torch.tensor([0.4, 0.5, 0.9, 1.0, 2.0]))
    assert fn.mean.isinf().tolist() == [False, False, False, True, True]
    assert fn.variance.isinf().tolist() == [False, True, True, True, True]


def test_density_that_grows_towards_the_upper_end():
    """c < -1: the velocity in closed form, where the numerical oracle fails."""
    leaves = [torch.full((100,), x, dtype=torch.float64, requires_grad=True) for x in (1.0, 2.0, -2.0)]
    value = GeneralizedPareto(*leaves).rsample()
    d_loc, d_scale, d_c = torch.autograd.grad(value.sum(), leaves)
    z = (value.detach() - 1) / 2
    rest = 1 - 2 * z
    torch.testing.assert_close(d_loc, torch.ones_like(z))
    torch.testing.assert_close(d_scale, z)
    torch.testing.assert_close(d_c, 2 * (torch.xlogy(rest, rest) + 2 * z) / 4, rtol=1e-6, atol=1e-9)
    law = stats.genpareto(c=-2.0, loc=1.0, scale=2.0)
    draws = GeneralizedPareto(*(x[0] for x in leaves)).sample((5000,))
    assert_follows(draws, law.cdf)


def test_draws_that_overflow_are_cut():
    c = leaf(30.0, torch.float32)
    value = GeneralizedPareto(0.0, 1.0, c).rsample((2000,))
    assert (value.detach() == torch.finfo(torch.float32).max).any()
    (slope,) = torch.autograd.grad(value.sum(), c)
    assert slope.isfinite() and slope > 0


@pytest.mark.parametrize("concentration", [-0.4, 0.01, 0.7])
def test_second_derivative(concentration):
    """Of the quantile (exp(c e) - 1) / c at fixed noise e."""
    c, scale = leaf(concentration), leaf(1.3)
    fn = GeneralizedPareto(0.5, scale, c)
    value = fn.rsample((50,))
    with torch.no_grad():
        exponential = (c * (value - 0.5) / scale).log1p() / c
    quantile = 0.5 + scale * (c * exponential).expm1() / c
    exact = second(quantile, c, scale)
    for mine in (value, pre.distributions.pathwise_at(fn, value.detach())):
        torch.testing.assert_close(second(mine, c, scale), exact, rtol=1e-8, atol=0)


def second(value, *parameters):
    gradients = torch.autograd.grad(value.square().sum(), parameters, create_graph=True)
    return torch.autograd.grad(sum(gradients), parameters)


@pytest.mark.parametrize("concentration", [-0.5, 0.0, 0.7])
def test_as_a_latent_site(concentration):
    """Without an upper end the bijection is onto a half-line."""
    c = torch.tensor(concentration)
    bijection = torch.distributions.biject_to(GeneralizedPareto(1.0, 2.0, c).support)
    x = torch.linspace(-4.0, 4.0, 9)
    y = bijection(x)
    assert y.isfinite().all() and (y.diff() > 0).all() and (y > 1).all()
    torch.testing.assert_close(bijection.inv(y), x, rtol=1e-4, atol=1e-4)

    def model():
        pyro.sample("x", GeneralizedPareto(1.0, 2.0, c))

    pyro.clear_param_store()
    guide = pyro.infer.autoguide.AutoNormal(model)
    optimiser = pyro.optim.Adam({"lr": 0.01})
    assert math.isfinite(pyro.infer.SVI(model, guide, optimiser, pyro.infer.Trace_ELBO()).step())


@dtypes
def test_second_derivatives_at_zero_concentration(dtype, precision):
    """z = e + c e^2 / 2 + c^2 e^3 / 6 + ...: d2 z / dc2 is e^3 / 3."""
    c, scale, u = leaf(0.0, dtype), leaf(2.0, dtype), leaf(0.3, dtype)
    fn = GeneralizedPareto(torch.zeros((), dtype=dtype), scale, c)
    draw = fn.rsample()
    for value, noise in ((fn.icdf(u), -math.log1p(-0.3)), (draw, draw.item() / 2)):
        (slope,) = torch.autograd.grad(value, c, create_graph=True)
        bent, mixed = torch.autograd.grad(slope, [c, scale])
        assert bent.item() == pytest.approx(2 * noise**3 / 3, rel=10 * precision)
        assert mixed.item() == pytest.approx(noise**2 / 2, rel=10 * precision)


@dtypes
def test_gradients_of_the_last_quantile(dtype, precision):
    for c0 in (-2.0, -0.3, -1e-3, 0.0, 0.5, 10.0):
        c, scale, u = leaf(c0, dtype), leaf(2.0, dtype), leaf(1.0, dtype)
        q = GeneralizedPareto(torch.zeros((), dtype=dtype), scale, c).icdf(u)
        gradients = torch.autograd.grad(q, [c, scale, u])
        assert not any(g.isnan() for g in gradients)
        if c0 < 0:  # -scale / c
            assert q.item() == pytest.approx(-2 / c0, rel=precision)
            assert gradients[0].item() == pytest.approx(2 / c0**2, rel=10 * precision)
            assert gradients[1].item() == pytest.approx(-1 / c0, rel=precision)
        else:
            assert q > 1e15


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_gradients_at_values_whose_quotient_overflows(scale):
    parameters = [leaf(x, torch.float32) for x in (0.0, scale, 0.5)]
    fn = GeneralizedPareto(*parameters)
    value = torch.tensor(1e38)
    d_loc, d_scale, d_c = torch.autograd.grad(fn.log_prob(value), parameters)
    assert d_loc.isfinite() and d_c.isfinite()
    assert d_scale.item() == pytest.approx(2 / scale, rel=1e-5)  # 1 / (c scale)
    assert all(g.isfinite() for g in torch.autograd.grad(fn.cdf(value), parameters))
