"""Gates that are 0 or 1 with positive probability."""

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from scipy import integrate
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import HardConcrete

from ..statistics import assert_mean

DRAWS = 40_000
T, LOGIT = 0.6, -0.7
CASES = pytest.mark.parametrize("t, logit", [(0.6, -0.7), (0.1, 1.5), (2.0, 0.0)])


def make(t=T, logit=LOGIT, dtype=torch.float64):
    """A distribution, and its parameters."""
    parameters = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in (t, logit)]
    return HardConcrete(parameters[0], logits=parameters[1]), parameters


def many(dtype=torch.float64):
    """The same with parameters of its own for each draw, for gradients of each."""
    parameters = [torch.full((DRAWS,), x, dtype=dtype, requires_grad=True) for x in (T, LOGIT)]
    return HardConcrete(parameters[0], logits=parameters[1]), parameters


def by_quadrature(fn, function):
    """The expectation of ``function(z)``, a float, by the log density between and at the ends."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    at_ends = sum(float(fn.log_prob(z).exp()) * function(z) for z in ends)

    def integrand(z):
        z = torch.tensor(z, dtype=torch.float64)
        return float(fn.log_prob(z).exp() * function(z))

    return at_ends + integrate.quad(integrand, 0, 1, epsabs=1e-11, limit=200)[0]


@CASES
def test_law(t, logit):
    fn = make(t, logit)[0]
    with torch.no_grad():
        np.testing.assert_allclose(by_quadrature(fn, lambda z: 1.0), 1, rtol=1e-8)
        mean = by_quadrature(fn, float)
        np.testing.assert_allclose(fn.mean, mean, rtol=1e-8)
        variance = by_quadrature(fn, lambda z: (float(z) - mean) ** 2)
        np.testing.assert_allclose(fn.variance, variance, rtol=1e-8)
        nonzero = by_quadrature(fn, lambda z: float(z > 0))
        np.testing.assert_allclose(fn.prob_nonzero, nonzero, rtol=1e-8)
        entropy = by_quadrature(fn, lambda z: -float(fn.log_prob(z)))
        np.testing.assert_allclose(fn.entropy(), entropy, rtol=1e-7)


@CASES
def test_samples_follow_the_law(t, logit):
    fn = make(t, logit)[0]
    with torch.no_grad():
        z = fn.sample((DRAWS,))
        below = torch.tensor([0.0, 0.2, 0.7, 1 - 1e-12], dtype=torch.float64)
        assert_mean((z.unsqueeze(-1) <= below).double(), fn.cdf(below))
        assert_mean(torch.stack([z, (z - fn.mean).square()], -1), torch.stack([fn.mean, fn.variance]))


def test_cdf_and_density_agree():
    fn, _ = make()
    z = torch.linspace(0.01, 0.99, 20, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(fn.cdf(z).sum(), z)
    torch.testing.assert_close(slope, fn.log_prob(z).exp())
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    masses = fn.log_prob(ends).exp()
    torch.testing.assert_close(fn.cdf(ends), torch.stack([masses[0], masses.new_ones(())]))
    torch.testing.assert_close(fn.cdf(ends[1] - 1e-13), 1 - masses[1])
    outside = HardConcrete(T, logits=LOGIT, validate_args=False).cdf(torch.tensor([-0.5, 1.5]))
    assert outside.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_of_a_sampled_divergence(dtype):
    """Of E[log q - log p], whose terms jump at 0 and 1; p of another temperature and stretch."""
    p = HardConcrete(torch.tensor(0.9, dtype=dtype), logits=0.4, low=-0.2, high=1.05)
    q, parameters = many(dtype)
    one, of_one = make(dtype=dtype)
    exact = kl_divergence(one, p)
    gradients = torch.stack(torch.autograd.grad(exact, of_one))
    z = q.rsample()
    ratio = q.log_prob(z) - p.log_prob(z)
    assert_mean(ratio.unsqueeze(-1), exact.unsqueeze(-1))
    sampled = torch.autograd.grad(ratio.sum(), parameters)
    assert_mean(torch.stack(sampled, -1), gradients)


def test_divergence_by_quadrature():
    p = HardConcrete(torch.tensor(0.9, dtype=torch.float64), logits=0.4, low=-0.2, high=1.05)
    q, _ = make()
    with torch.no_grad():
        expected = by_quadrature(q, lambda z: float(q.log_prob(z) - p.log_prob(z)))
        np.testing.assert_allclose(kl_divergence(q, p), expected, rtol=1e-8)
        assert kl_divergence(q, q) == 0


def test_gradient_of_an_elbo():
    """``Trace_ELBO`` as it is, with a likelihood: against the exact KL divergence and quadrature."""
    p = HardConcrete(torch.tensor(0.9, dtype=torch.float64), logits=0.4)
    q, parameters = many()

    def model():
        z = pyro.sample("z", p.expand((DRAWS,)).to_event(1))
        pyro.factor("cost", -(3 * z).sin().sum())

    def guide():
        pyro.sample("z", q.to_event(1))

    loss = Trace_ELBO().differentiable_loss(model, guide)
    sampled = torch.stack(torch.autograd.grad(loss, parameters), -1)
    one, of_one = make()
    exact = kl_divergence(one, p) + one._expectation(lambda fn, z: (3 * z).sin())
    assert_mean(sampled, torch.stack(torch.autograd.grad(exact, of_one)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_of_a_continuous_loss(dtype):
    q, parameters = many(dtype)
    z = q.rsample()
    sampled = torch.stack(torch.autograd.grad((3 * z).sin().sum(), parameters), -1)
    clamped = (z == 0) | (z == 1)
    assert 0.2 < clamped.double().mean() < 0.8
    assert (sampled[clamped].abs() < 1e-12).all()
    assert (sampled[~clamped] != 0).all()
    one, of_one = make(dtype=torch.float64)
    mean = one._expectation(lambda fn, z: (3 * z).sin())
    assert_mean(sampled, torch.stack(torch.autograd.grad(mean, of_one)))


def test_probs():
    probs = torch.tensor([0.1, 0.5, 0.9])
    fn = HardConcrete(0.5, probs=probs)
    torch.testing.assert_close(fn.logits, probs.logit())
    torch.testing.assert_close(fn.probs, probs)


def test_deterministic_gate():
    logits = torch.tensor([-10.0, 0.0, 1.0, 10.0])
    expected = torch.tensor([0.0, 0.5, 1.2 * 0.7310586 - 0.1, 1.0])
    torch.testing.assert_close(HardConcrete(0.5, logits=logits).deterministic_gate, expected)


@pytest.mark.parametrize("stretch", [1e-9, 1e-4, 10.0])
@pytest.mark.parametrize("logit", [-60.0, 0.0, 60.0])
def test_finite_in_float32(stretch, logit):
    logit = torch.tensor(logit, requires_grad=True)
    fn = HardConcrete(0.5, logits=logit, low=-stretch, high=1 + stretch, validate_args=True)
    z = torch.tensor([0.0, 1e-38, 1e-7, 0.5, 1 - 6e-8, 1.0])
    log_prob = fn.log_prob(z)
    assert log_prob.isfinite().all()
    assert torch.autograd.grad(log_prob.sum(), logit)[0].isfinite()
    assert fn.variance >= 0


@pytest.mark.parametrize("ends", [{"low": 0.0}, {"high": 1.0}, {"low": 0.2}, {"high": float("nan")}])
def test_rejects_ends_inside(ends):
    with pytest.raises(ValueError, match="expected low < 0 and high > 1"):
        HardConcrete(0.5, logits=0.0, **ends)


def test_expand_keeps_the_ends():
    fn = HardConcrete(0.5, logits=0.0, low=-0.3, high=1.4).expand((3,))
    assert (fn.low, fn.high) == (-0.3, 1.4)


@pytest.mark.parametrize("t", [8.0, 30.0, 100.0])
@pytest.mark.parametrize("x", [-3.0, 0.4, 2.3])
def test_moments_at_a_high_temperature(t, x):
    """Almost all probability is within 1 / T of the mode, at x; against 20,000 panels there."""
    fn, _ = make(t, t * x)
    other = HardConcrete(fn.temperature.detach(), logits=t * x + 1.0)
    with torch.no_grad():
        edges = torch.linspace(-40, 40, 20_001, dtype=torch.float64) / t + x
        edges = torch.cat([edges, edges.new_tensor([fn.support.start, fn.support.end])]).sort().values
        middle = (edges[1:] + edges[:-1]) / 2
        mass = (t * (edges - x)).sigmoid().diff()
        z = fn.support.value(middle)
        mean = (mass * z).sum()
        variance = (mass * (z - mean).square()).sum()
        torch.testing.assert_close(fn.mean, mean, rtol=1e-4, atol=1e-10)
        torch.testing.assert_close(fn.variance, variance, rtol=1e-4, atol=1e-10)
        ratio = fn.log_prob(z) - other.log_prob(z)
        torch.testing.assert_close(
            kl_divergence(fn, other), (mass * ratio).sum(), rtol=1e-4, atol=1e-10
        )
        entropy = -(mass * fn.log_prob(z)).sum()
        torch.testing.assert_close(fn.entropy(), entropy, rtol=1e-4, atol=1e-6)
