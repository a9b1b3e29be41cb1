"""The slope of a log density: closed forms against automatic differentiation."""

import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions.rules.log_density_slope import log_density_slope


@pytest.mark.parametrize(
    "fn",
    [dist.Normal(0.3, 0.7), dist.Gamma(2.5, 1.5), dist.Laplace(0.3, 0.7), dist.LogNormal(0.3, 0.7)],
)
def test_slope_of_the_log_density(fn):
    x = torch.linspace(0.1, 3.0, 7, requires_grad=True)
    (slope,) = torch.autograd.grad(fn.log_prob(x).sum(), x)
    ours = log_density_slope(fn, x.detach())
    assert not ours.requires_grad
    torch.testing.assert_close(ours, slope)
