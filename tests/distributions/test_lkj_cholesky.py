"""LKJCholesky: its gradient draw by draw, its variance, precision in float32, moments and KL."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import LKJCholesky, pathwise_at

from ..statistics import assert_mean

DOUBLE = torch.float64


def test_velocity():
    """Each row keeps its direction; the square of its last element moves as a Beta variable does."""
    eta = torch.full((200,), 1.7, dtype=DOUBLE, requires_grad=True)
    value = LKJCholesky(4, eta).rsample()
    for i in range(1, 4):
        (gradient,) = torch.autograd.grad(value[:, i, i].sum(), eta, retain_graph=True)
        square = value[:, i, i].detach().numpy() ** 2
        law = lambda shift, i=i: stats.beta(1.7 + shift + (3 - i) / 2, i / 2)  # noqa: E731
        slope = (law(1e-5).cdf(square) - law(-1e-5).cdf(square)) / 2e-5
        exact = -slope / law(0).pdf(square) / (2 * np.sqrt(square))
        np.testing.assert_allclose(gradient.numpy(), exact, rtol=1e-6, atol=1e-9)
    direction = value[:, 3, 0] / value[:, 3, 1]
    (gradient,) = torch.autograd.grad(direction.sum(), eta, retain_graph=True)
    assert gradient.abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(value.square().sum(-1).sum(), eta)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("dim", [3, 4, 5])
@pytest.mark.parametrize("concentration", [0.5, 2.0])
def test_variance_against_the_score_function(dim, concentration):
    """With the exact mean for a baseline; 8 to 29 times were measured."""
    eta = torch.full((4000,), concentration, dtype=DOUBLE, requires_grad=True)
    fn = LKJCholesky(dim, eta)
    value = fn.rsample()
    square = (value @ value.mT)[:, 0, -1].square()
    (pathwise,) = torch.autograd.grad(square.sum(), eta)
    (score,) = torch.autograd.grad(fn.log_prob(value.detach()).sum(), eta)
    centred = square.detach() - 1 / (2 * concentration + dim - 1)
    assert (centred * score).var() > 5 * pathwise.var()


@pytest.mark.parametrize("dim", [2, 3, 10, 50])
@pytest.mark.parametrize("concentration", [0.1, 1.0, 30.0, 1e3])
def test_factors_are_valid_in_float32(dim, concentration):
    eta = torch.full((300,), concentration, requires_grad=True)
    fn = LKJCholesky(dim, eta)
    value = fn.rsample()
    assert fn.support.check(value).all()
    assert (value.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert fn.log_prob(value.detach()).isfinite().all()
    for output in (value.sum(), (value @ value.mT).square().sum()):
        (gradient,) = torch.autograd.grad(output, eta, retain_graph=True)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("concentration", [0.1, 2.0, 1e3])
def test_gradient_in_float32(concentration):
    """At the same value, against float64."""
    value = LKJCholesky(5, torch.tensor(concentration)).sample((200,))
    gradients = []
    for dtype in (torch.float32, DOUBLE):
        eta = torch.full((200,), concentration, dtype=dtype, requires_grad=True)
        moving = pathwise_at(LKJCholesky(5, eta), value.to(dtype))
        (gradient,) = torch.autograd.grad(moving.diagonal(dim1=-2, dim2=-1).sum(), eta)
        gradients.append(gradient.double())
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3 * float(gradients[1].abs().max()))


def test_is_pyros():
    eta = torch.tensor([0.4, 1.0, 3.0], dtype=DOUBLE)
    ours, theirs = LKJCholesky(4, eta), dist.LKJCholesky(4, eta)
    assert isinstance(ours, dist.LKJCholesky)
    value = ours.sample((5,))
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))
    assert LKJCholesky(3).sample().dtype == torch.get_default_dtype()


@pytest.mark.parametrize("concentration", [0.4, 3.0])
def test_moments_and_entropy(concentration):
    fn = LKJCholesky(4, torch.tensor(concentration, dtype=DOUBLE))
    value = fn.sample((20_000,))
    assert_mean(value.flatten(1), fn.mean.flatten())
    assert_mean((value - fn.mean).square().flatten(1), fn.variance.flatten())
    assert_mean(-fn.log_prob(value)[:, None], fn.entropy()[None])


def test_kl_divergence_by_quadrature():
    """Two variables: the correlation is 2 Beta(eta, eta) - 1."""
    p, q = (LKJCholesky(2, torch.tensor(x, dtype=DOUBLE)) for x in (1.5, 4.0))
    laws = [stats.beta(x, x, loc=-1, scale=2) for x in (1.5, 4.0)]
    exact, _ = integrate.quad(
        lambda r: laws[0].pdf(r) * (laws[0].logpdf(r) - laws[1].logpdf(r)), -1, 1, epsabs=1e-12
    )
    assert float(kl_divergence(p, q)) == pytest.approx(exact, rel=1e-8)


def test_kl_divergence_of_more_variables():
    p, q = (LKJCholesky(5, torch.tensor(x, dtype=DOUBLE)) for x in (1.5, 4.0))
    value = p.sample((20_000,))
    assert_mean((p.log_prob(value) - q.log_prob(value))[:, None], kl_divergence(p, q)[None])


def test_second_derivative():
    """Along the quantiles of the Beta variable."""
    eta = torch.full((50,), 1.7, dtype=DOUBLE, requires_grad=True)
    value = LKJCholesky(3, eta).rsample()[:, 1, 1]
    (gradient,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), eta)
    law = lambda shift: stats.beta(1.7 + shift + 0.5, 0.5)  # noqa: E731
    u = law(0).cdf(value.detach().numpy() ** 2)
    below, here, above = (np.sqrt(law(shift).ppf(u)) for shift in (-1e-3, 0, 1e-3))
    np.testing.assert_allclose(second.numpy(), (above - 2 * here + below) / 1e-6, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: LKJCholesky(1, 1.0), "at least 2"),
        (lambda: LKJCholesky(3, -1.0), "concentration"),
        (lambda: kl_divergence(LKJCholesky(3, 1.0), LKJCholesky(2, 1.0)), "dims differ"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_kl_with_pyros():
    p, q = (torch.tensor(x, dtype=DOUBLE) for x in (2.0, 0.7))
    exact = kl_divergence(LKJCholesky(3, p), LKJCholesky(3, q))
    assert kl_divergence(LKJCholesky(3, p), dist.LKJCholesky(3, q)) == exact
    assert kl_divergence(dist.LKJCholesky(3, p), LKJCholesky(3, q)) == exact
    with pytest.raises(ValueError, match="dims differ"):
        kl_divergence(LKJCholesky(3, p), dist.LKJCholesky(4, q))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("dim", [2, 5])
def test_no_entry_is_beyond_one(dim, dtype):
    """Of 0.9 % of draws one was, by the rounding of a row's length."""
    fn = LKJCholesky(dim, torch.tensor(0.1, dtype=dtype))
    value = fn.sample((20_000,))
    assert value.abs().max() <= 1
    assert fn.support.check(value).all()
