"""Both tails of univariate distributions."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.tails import has_tails, tails

FAMILIES = {
    "Normal": (dist.Normal(0.3, 0.7), stats.norm(0.3, 0.7)),
    "Laplace": (dist.Laplace(0.3, 0.7), stats.laplace(0.3, 0.7)),
    "Cauchy": (dist.Cauchy(0.3, 0.7), stats.cauchy(0.3, 0.7)),
    "Logistic": (dist.Logistic(0.3, 0.7), stats.logistic(0.3, 0.7)),
    "Gumbel": (dist.Gumbel(0.3, 0.7), stats.gumbel_r(0.3, 0.7)),
    "Weibull": (dist.Weibull(0.7, 1.5), stats.weibull_min(1.5, scale=0.7)),
    "StudentT": (dist.StudentT(2.5, 0.3, 0.7), stats.t(2.5, 0.3, 0.7)),
    "Exponential": (dist.Exponential(1.5), stats.expon(scale=1 / 1.5)),
    "Gamma": (dist.Gamma(2.5, 1.5), stats.gamma(2.5, scale=1 / 1.5)),
    "Beta": (dist.Beta(2.5, 1.5), stats.beta(2.5, 1.5)),
    "Gamma of the package": (pre.distributions.Gamma(2.5, 1.5), stats.gamma(2.5, scale=1 / 1.5)),
    "Beta of the package": (pre.distributions.Beta(2.5, 1.5), stats.beta(2.5, 1.5)),
    "StudentT of the package": (pre.distributions.StudentT(2.5, 0.3, 0.7), stats.t(2.5, 0.3, 0.7)),
    "LogNormal": (dist.LogNormal(0.3, 0.7), stats.lognorm(0.7, scale=np.exp(0.3))),
    "HalfNormal": (dist.HalfNormal(0.7), stats.halfnorm(scale=0.7)),
    "HalfCauchy": (dist.HalfCauchy(0.7), stats.halfcauchy(scale=0.7)),
    "GeneralizedPareto": (
        pre.distributions.GeneralizedPareto(0.0, 0.7, 0.2),
        stats.genpareto(0.2, 0.0, 0.7),
    ),
    "GeneralizedPareto with an upper bound": (
        pre.distributions.GeneralizedPareto(0.0, 0.7, -0.05),
        stats.genpareto(-0.05, 0.0, 0.7),
    ),
    "InverseGaussian": (
        pre.distributions.InverseGaussian(1.5, 2.0),
        stats.invgauss(1.5 / 2.0, scale=2.0),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_both_tails_have_relative_precision(name):
    fn, exact = FAMILIES[name]
    levels = np.array([1e-12, 1e-6, 1e-3, 0.1, 0.4])
    x = np.concatenate([exact.ppf(levels), exact.isf(levels)]).astype(np.float32)
    below, above = tails(fn, torch.as_tensor(x))
    np.testing.assert_allclose(below, exact.cdf(x.astype(float)), rtol=5e-5)
    np.testing.assert_allclose(above, exact.sf(x.astype(float)), rtol=5e-5)
    assert has_tails(fn)


def test_a_decreasing_transform_swaps_the_tails():
    x = torch.tensor(2.0)
    transform = dist.transforms.AffineTransform(0.0, -1.0)
    fn = dist.TransformedDistribution(dist.Normal(0.0, 1.0), [transform])
    for one, two in zip(tails(fn, x), tails(dist.Normal(0.0, 1.0), -x)[::-1], strict=True):
        assert one == two
    tensor = dist.transforms.AffineTransform(0.0, torch.tensor(-1.0))
    assert tails(dist.TransformedDistribution(dist.Normal(0.0, 1.0), [tensor]), x) == tails(fn, x)


def test_otherwise_one_less_the_cdf():
    below, above = tails(dist.Uniform(0.0, 2.0), torch.tensor(0.5))
    assert (below.item(), above.item()) == (0.25, 0.75)
    assert not has_tails(dist.VonMises(0.0, 1.0))


@pytest.mark.parametrize(
    "bounds", [(-1.0, np.inf), (-30.0, 12.0), (0.5, np.inf), (2.0, np.inf), (2.0, 50.0)]
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_tails_of_what_is_truncated(bounds, mirrored):
    x = np.array([6.5, 8.0, 11.0] if bounds[0] > 0 else [0.3, 2.0, 5.5, 6.5, 8.0, 11.0])
    law = stats.truncnorm(*bounds)
    exact = law.cdf(x), law.sf(x)
    if mirrored:
        x, bounds, exact = -x, (-bounds[1], -bounds[0]), exact[::-1]
    for fn in (
        pre.distributions.TruncatedNormal(0.0, 1.0, *bounds),
        pre.distributions.Truncated(dist.Normal(0.0, 1.0), *bounds),
    ):
        ours = tails(fn, torch.as_tensor(x, dtype=torch.float32))
        for one, two in zip(ours, exact, strict=True):
            np.testing.assert_allclose(one, two, rtol=5e-5)
