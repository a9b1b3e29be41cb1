"""ContinuousBernoulli: through logits 0, and for logits of any size."""

import math

import mpmath
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre

from ..statistics import assert_mean

ContinuousBernoulli = pre.distributions.ContinuousBernoulli
SIZES = [0.0, 1e-30, 1e-10, 1e-4, 0.1, 0.12, 0.13, 0.49, 0.51, 0.99, 1.01, 5.0, 10.1, 50.0, 1e3, 1e4]
LOGITS = [sign * size for size in SIZES for sign in (1, -1)]
dtypes = pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 5e-6)]
)


def leaf(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype, requires_grad=True)


class Exact:
    """In 60 digits; a size below 1e-15 is as 1e-15."""

    def __init__(self, logits):
        self.logits = mpmath.mpf(logits)
        if abs(self.logits) < 1e-15:
            self.logits = mpmath.mpf(10) ** -15 * (-1 if logits < 0 else 1)
        self.log_mass = mpmath.log(mpmath.expm1(self.logits) / self.logits)
        self.mean = mpmath.exp(self.logits) / mpmath.expm1(self.logits) - 1 / self.logits
        self.variance = 1 / self.logits**2 - mpmath.exp(self.logits) / mpmath.expm1(self.logits) ** 2
        self.entropy = self.log_mass - self.logits * self.mean

    def cdf(self, x):
        return mpmath.expm1(self.logits * x) / mpmath.expm1(self.logits)

    def icdf(self, u):
        return mpmath.log1p(u * mpmath.expm1(self.logits)) / self.logits

    def velocity(self, x):
        return (mpmath.expm1(-self.logits * x) / mpmath.expm1(-self.logits) - x) / self.logits


@pytest.mark.parametrize(("parameter", "exact"), [("probs", 1 / 3), ("logits", 1 / 12)])
def test_gradient_at_one_half(parameter, exact):
    """Of E[x], which is 0 where the neighbourhood of 1/2 is cut out."""
    centre = 0.5 if parameter == "probs" else 0.0
    leaves = torch.full((20_000,), centre, dtype=torch.float64, requires_grad=True)
    value = ContinuousBernoulli(**{parameter: leaves}).rsample()
    (samples,) = torch.autograd.grad(value.sum(), leaves)
    x = value.detach()
    torch.testing.assert_close(samples, x * (1 - x) / 2 * (4 if parameter == "probs" else 1))
    assert_mean(samples[:, None], torch.tensor([exact]))
    single = leaf(centre)
    mean = ContinuousBernoulli(**{parameter: single}).mean
    assert torch.autograd.grad(mean, single)[0].item() == pytest.approx(exact)


@dtypes
@pytest.mark.parametrize("logits", LOGITS)
def test_against_mpmath(logits, dtype, precision):
    with mpmath.workdps(60):
        parameter = leaf(logits, dtype)
        fn, exact = ContinuousBernoulli(logits=parameter), Exact(parameter.item())
        for name in ("mean", "variance"):
            assert getattr(fn, name).item() == pytest.approx(float(getattr(exact, name)), rel=precision)
        (slope,) = torch.autograd.grad(fn.mean, parameter)
        assert slope.item() == pytest.approx(float(exact.variance), rel=10 * precision)
        scale = max(abs(float(exact.entropy)), 1e-15)
        assert fn.entropy().item() == pytest.approx(float(exact.entropy), abs=precision * scale)
        near = [min(0.5, k / max(1.0, abs(logits))) for k in (1e-3, 0.1, 1.0, 4.0)]
        for x in [0.0, *(near if logits < 0 else [1 - x for x in near]), 0.3, 0.7, 1.0]:
            value = torch.tensor(x, dtype=dtype)
            point = mpmath.mpf(value.item())
            log_prob = fn.log_prob(value)
            (slope,) = torch.autograd.grad(log_prob, parameter)
            expected = float(exact.logits * point - exact.log_mass)
            assert log_prob.item() == pytest.approx(expected, rel=precision, abs=precision)
            expected = float(point - exact.mean)
            scale = max(abs(expected), 1 / (1 + abs(logits)))
            assert slope.item() == pytest.approx(expected, abs=precision * scale)
            if exact.cdf(point) > 1e-30:
                expected = float(exact.cdf(point))
                assert fn.cdf(value).item() == pytest.approx(expected, rel=4 * precision)
            (velocity,) = torch.autograd.grad(fn._at(value), parameter)
            # To the size of the velocity at the end where the mass lies.
            distance = 1 - x if logits > 0 else x
            size = max(distance * (1 - distance), 0.02) / max(1.0, abs(logits))
            expected = float(exact.velocity(point))
            assert velocity.item() == pytest.approx(expected, abs=4 * precision * size)
        for u in (1e-6, 0.1, 0.5, 0.9, 0.999):
            value = torch.tensor(u, dtype=dtype)
            expected = float(exact.icdf(mpmath.mpf(value.item())))
            assert fn.icdf(value).item() == pytest.approx(expected, rel=4 * precision)


def test_icdf_moves_as_a_draw_does():
    for logits in (-20.0, -0.3, 0.0, 0.3, 20.0):
        parameter, u = leaf(logits), torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
        fn = ContinuousBernoulli(logits=parameter)
        x = fn.icdf(u)
        (slope,) = torch.autograd.grad(x.sum(), parameter)
        (velocity,) = torch.autograd.grad(fn._at(x.detach()).sum(), parameter)
        torch.testing.assert_close(slope, velocity, rtol=1e-8, atol=0)


def test_probs_far_below_the_precision_of_one():
    """probs = 1e-30 is logits = -69, also in float32."""
    probs = leaf(1e-30, torch.float32)
    fn = ContinuousBernoulli(probs=probs)
    assert fn.logits.item() == pytest.approx(-69.0776, rel=1e-5)
    assert fn.mean.item() == pytest.approx(1 / 69.0776, rel=1e-5)
    ends = ContinuousBernoulli(probs=torch.tensor([0.0, 1.0]))
    assert ends.rsample((100,)).isfinite().all()
    assert ends.logits.isfinite().all()


LAWS = [-1e4, -30.0, -0.7, -1e-3, 0.0, 1e-4, 0.6, 30.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_against_quadrature(dtype):
    p, q = torch.tensor(LAWS, dtype=dtype)[:, None], torch.tensor(LAWS, dtype=dtype)
    ours = kl_divergence(ContinuousBernoulli(logits=p), ContinuousBernoulli(logits=q))
    # In quantiles of p, where the integrand is smooth: log p(x) - log q(x).
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5)[:, None, None] / 20_000
    first, second = ContinuousBernoulli(logits=p.double()), ContinuousBernoulli(logits=q.double())
    x = first.icdf(u)
    exact = (first.log_prob(x) - second.log_prob(x)).mean(0)
    torch.testing.assert_close(ours.double(), exact, rtol=3e-4, atol=1e-5)
    assert (ours.diagonal().abs() < 1e-6).all()


def test_kl_is_smooth_at_one_half():
    """KL(p | uniform) is logits^2 / 24: its second derivative at 0 is 1/12."""
    logits = leaf(0.0)
    kl = kl_divergence(ContinuousBernoulli(logits=logits), ContinuousBernoulli(logits=torch.zeros(())))
    (first,) = torch.autograd.grad(kl, logits, create_graph=True)
    (second,) = torch.autograd.grad(first, logits)
    assert first.item() == pytest.approx(0.0, abs=1e-12)
    assert second.item() == pytest.approx(1 / 12)


def test_kl_to_what_torch_registers():
    ours = ContinuousBernoulli(probs=torch.tensor(0.3, dtype=torch.float64))
    theirs = dist.ContinuousBernoulli(probs=torch.tensor(0.3, dtype=torch.float64))
    normal = dist.Normal(torch.tensor(0.2, dtype=torch.float64), 1.0)
    assert isinstance(ours, dist.ContinuousBernoulli)
    torch.testing.assert_close(kl_divergence(ours, normal), kl_divergence(theirs, normal))
    torch.testing.assert_close(kl_divergence(ours, theirs), torch.zeros((), dtype=torch.float64))


def test_one_object_under_two_losses():
    """No part of the graph is kept between calls."""
    probs = leaf(0.3)
    fn = ContinuousBernoulli(probs=probs)
    for _ in range(2):
        fn.rsample().backward()
        fn.log_prob(torch.tensor(0.4, dtype=torch.float64)).backward()
    assert math.isfinite(probs.grad.item())


def test_takes_one_parameter():
    for arguments in ({}, {"probs": 0.3, "logits": 0.1}):
        with pytest.raises(ValueError, match="either probs or logits"):
            ContinuousBernoulli(**arguments)


@pytest.mark.parametrize("size", [-5.0, -0.7, 0.3, 0.8, 4.0])
def test_second_derivative(size):
    """Of the quantile log(1 + u (exp(logits) - 1)) / logits at fixed u."""
    logits = leaf(size)
    fn = ContinuousBernoulli(logits=logits)
    value = fn.rsample((50,))
    with torch.no_grad():
        u = (logits * value).expm1() / logits.expm1()
    quantile = (u * logits.expm1()).log1p() / logits
    exact = second(quantile, logits)
    for mine in (value, pre.distributions.pathwise_at(fn, value.detach())):
        torch.testing.assert_close(second(mine, logits), exact, rtol=1e-8, atol=0)


def second(value, logits):
    (gradient,) = torch.autograd.grad(value.square().sum(), logits, create_graph=True)
    return torch.autograd.grad(gradient, logits)[0]
