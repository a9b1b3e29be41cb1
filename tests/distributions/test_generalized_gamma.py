"""GeneralizedGamma."""

import pyro.distributions as dist
import torch
from scipy import stats
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import pathwise_at

from ..statistics import assert_mean

GeneralizedGamma = pre.distributions.GeneralizedGamma
X = torch.tensor([0.01, 0.4, 1.3, 6.0], dtype=torch.float64)


def numbers(*values):
    return (torch.tensor(v, dtype=torch.float64) for v in values)


def test_special_cases():
    one, half, two, scale = numbers(1.0, 0.5, 2.0, 1.5)
    weibull = GeneralizedGamma(one, two, scale)
    torch.testing.assert_close(weibull.log_prob(X), dist.Weibull(scale, two).log_prob(X))
    normal = GeneralizedGamma(half, two, scale)
    twin = dist.HalfNormal(scale / 2**0.5)
    torch.testing.assert_close(normal.log_prob(X), twin.log_prob(X))
    gamma = GeneralizedGamma(two, one, scale)
    torch.testing.assert_close(gamma.log_prob(X), dist.Gamma(two, 1 / scale).log_prob(X))


def test_gradients_of_the_cdf():
    c, p, s = (x.requires_grad_() for x in numbers(0.7, 1.8, 1.5))
    x = torch.tensor(1.1, dtype=torch.float64)
    ours = torch.autograd.grad(GeneralizedGamma(c, p, s).cdf(x), (c, p, s))
    h, at = 1e-5, (0.7, 1.8, 1.5)
    for i, gradient in enumerate(ours):
        up, down = (
            stats.gengamma(*(v + sign * h * (i == k) for k, v in enumerate(at[:2])), scale=scale)
            for sign, scale in ((1, at[2] + h * (i == 2)), (-1, at[2] - h * (i == 2)))
        )
        torch.testing.assert_close(
            gradient.item(), (up.cdf(1.1) - down.cdf(1.1)) / (2 * h), rtol=1e-6, atol=0
        )


def test_mode():
    c, p, s = numbers(2.0, 1.5, 0.7)
    fn = GeneralizedGamma(c, p, s)
    mode = fn.mode
    assert fn.log_prob(mode) > fn.log_prob(mode * 1.01)
    assert fn.log_prob(mode) > fn.log_prob(mode * 0.99)
    assert GeneralizedGamma(0.3, 1.5, 0.7).mode == 0


def test_kl_against_its_definition():
    p = GeneralizedGamma(*numbers(1.6, 1.4, 0.8))
    q = GeneralizedGamma(*numbers(0.9, 2.0, 1.3))
    t = torch.linspace(-25, 3, 200_001, dtype=torch.float64)
    integrand = (p.log_prob(t.exp()) + t).exp() * (p.log_prob(t.exp()) - q.log_prob(t.exp()))
    torch.testing.assert_close(kl_divergence(p, q), torch.trapezoid(integrand, t), rtol=1e-7, atol=0)
    torch.testing.assert_close(kl_divergence(p, p), torch.zeros_like(p.mean))


def test_draws_that_underflow_keep_the_gradient_of_their_logarithm():
    c = torch.full((50_000,), 0.01, requires_grad=True)
    x = GeneralizedGamma(c, 0.5, 1.0).rsample()
    assert (x == torch.finfo(x.dtype).tiny).any()
    (gradient,) = torch.autograd.grad(x.log().sum(), c)
    expected = 2 * torch.polygamma(1, torch.tensor(0.01))
    assert_mean(gradient[:, None] * 1e-4, expected[None] * 1e-4)


def test_gradients_far_out_in_float32():
    given = [torch.tensor(v, requires_grad=True) for v in (2.0, 8.0, 1.0)]
    fn = GeneralizedGamma(*given)
    for x in (1e-30, 10.0, 100.0, 1e15):
        cdf = torch.autograd.grad(fn.cdf(torch.tensor(x)), given)
        density = torch.autograd.grad(fn.log_prob(torch.tensor(x)), given)
        assert all(g.isfinite() for g in (*cdf, density[0]))
        assert not any(g.isnan() for g in density)


def test_at_zero():
    given = [torch.tensor(v, requires_grad=True) for v in (2.0, 3.0, 1.0)]
    fn, zero = GeneralizedGamma(*given, validate_args=False), torch.tensor(0.0)
    assert fn.cdf(zero) == 0 and fn.log_prob(zero) == -torch.inf
    assert GeneralizedGamma(0.2, 2.0, 1.0, validate_args=False).log_prob(zero) == torch.inf
    for value in (fn.cdf(zero), pathwise_at(fn, zero)):
        assert all(g == 0 for g in torch.autograd.grad(value, given))
