"""LogDirichlet."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import pathwise_at

from ..statistics import assert_mean

LogDirichlet = pre.distributions.LogDirichlet
LogBeta = pre.distributions.LogBeta


def test_two_components_are_a_log_beta():
    alpha = torch.tensor([0.7, 3.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([-2.0, 0.0], dtype=torch.float64)
    y[1] = (-y[0].exp()).log1p()
    fn, twin = LogDirichlet(alpha), LogBeta(alpha[0], alpha[1])
    torch.testing.assert_close(fn.log_prob(y), twin.log_prob(y[0]))
    torch.testing.assert_close(fn.entropy(), twin.entropy())
    (ours,) = torch.autograd.grad(pathwise_at(fn, y)[0], alpha)
    (theirs,) = torch.autograd.grad(pathwise_at(twin, y[0]), alpha)
    torch.testing.assert_close(ours, theirs)


def test_small_concentrations_in_float32():
    alpha = torch.full((50_000, 3), 1e-3, requires_grad=True)
    y = LogDirichlet(alpha).rsample()
    assert y.isfinite().all() and y.detach().min() < -5000
    mean = torch.digamma(torch.tensor(1e-3)) - torch.digamma(torch.tensor(3e-3))
    assert_mean(y * 1e-3, mean.expand(3) * 1e-3)
    (gradient,) = torch.autograd.grad(y[:, 0].sum(), alpha)
    small, large = (torch.polygamma(1, torch.tensor(v)) for v in (1e-3, 3e-3))
    assert_mean(gradient * 1e-6, torch.stack([small - large, -large, -large]) * 1e-6)


def test_moments_and_entropy():
    fn = LogDirichlet(torch.tensor([0.5, 2.0, 4.0]).double())
    y = fn.sample((50_000,))
    assert_mean(y, fn.mean)
    assert_mean((y - fn.mean).square(), fn.variance)
    assert_mean(-fn.log_prob(y)[:, None], fn.entropy()[None])


def test_kl():
    p = LogDirichlet(torch.tensor([0.5, 2.0, 4.0]).double())
    q = LogDirichlet(torch.tensor([1.5, 1.0, 2.0]).double())
    y = p.sample((50_000,))
    assert_mean((p.log_prob(y) - q.log_prob(y))[:, None], kl_divergence(p, q)[None])


@pytest.mark.parametrize("concentration", [torch.tensor(1.0), torch.ones(3, 1)])
def test_needs_two_components(concentration):
    with pytest.raises(ValueError, match="two or more"):
        LogDirichlet(concentration)


def test_says_that_a_list_is_no_tensor():
    with pytest.raises(ValueError, match="tensor, not a list"):
        LogDirichlet([1.0, 2.0])


def test_in_an_automatic_guide():
    """Its mean-field normal guide approaches the site; the bound on a normalised model is below 0."""

    def model():
        pyro.sample("y", LogDirichlet(torch.tensor([3.0, 2.0, 4.0])))

    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO(num_particles=8))
    first, *_, last = (svi.evaluate_loss() if i in (0, 101) else svi.step() for i in range(102))
    assert -0.5 < last < first
    assert LogDirichlet.support.check(guide.median()["y"])


def test_entropy_and_kl_are_those_of_the_vector():
    p, q = (torch.tensor(x).double() for x in ([0.3, 2.0, 50.0], [1.0, 0.2, 9.0]))
    expected = kl_divergence(dist.Dirichlet(p), dist.Dirichlet(q))
    torch.testing.assert_close(kl_divergence(LogDirichlet(p), LogDirichlet(q)), expected)
    fn = LogDirichlet(p)
    torch.testing.assert_close(fn.entropy(), dist.Dirichlet(p).entropy() - fn.mean[:-1].sum())


def test_entropy_of_large_concentrations_in_float32():
    alpha = torch.tensor([1e5, 2e5, 1e6])
    expected = dist.Dirichlet(alpha.double()).entropy() - LogDirichlet(alpha.double()).mean[:-1].sum()
    torch.testing.assert_close(LogDirichlet(alpha).entropy().double(), expected, rtol=1e-6, atol=0)
