"""Expectations by sums and quadrature are those of the distributions."""

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.testing.families import DTYPE, FAMILIES

from ..statistics import assert_mean


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_expectation(family):
    theta = torch.randn(3, family.size, dtype=DTYPE)
    values, weights = family.expect(theta)
    torch.testing.assert_close(weights.sum(0), torch.ones(3, dtype=DTYPE), rtol=1e-8, atol=1e-8)
    exact = (weights.unsqueeze(-1) * family.features(values)).sum(0)
    samples = family.features(family.make(theta).sample((10_000,)))
    assert samples.shape[-1] == family.num_features
    assert_mean(samples.flatten(1), exact.flatten())


def test_expectation_on_another_support():
    family = pre.testing.Family("Gamma", 1, lambda t: dist.Gamma(2.0, t[..., 0].exp()))
    theta = torch.tensor([0.3], dtype=DTYPE, requires_grad=True)
    values, weights = family.expect(theta)
    mean = (weights * values).sum()
    torch.testing.assert_close(mean, 2 * (-theta[0]).exp())
    torch.testing.assert_close(torch.autograd.grad(mean, theta)[0], -mean.detach().reshape(1))


def test_what_has_no_expectation():
    family = pre.testing.Family("Normal", 2, lambda t: dist.Normal(t, 1.0).to_event(1))
    with pytest.raises(ValueError, match=r"Normal: .*Leave out .to_event"):
        family.expect(torch.zeros(2, dtype=DTYPE))
