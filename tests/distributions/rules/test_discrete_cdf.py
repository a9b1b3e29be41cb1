import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_reparam_ext.distributions.rules.discrete_cdf import discrete_cdf

COUNTS = np.arange(9.0)
CASES = {
    "Poisson": (lambda p: dist.Poisson(5 * p), lambda p: stats.poisson(5 * p), COUNTS),
    "Binomial": (lambda p: dist.Binomial(8, p), lambda p: stats.binom(8, p), COUNTS),
    "NegativeBinomial": (
        lambda p: dist.NegativeBinomial(2.5, p),
        lambda p: stats.nbinom(2.5, 1 - p),
        COUNTS,
    ),
    "Geometric": (dist.Geometric, lambda p: stats.geom(p, loc=-1), COUNTS),
    "Bernoulli": (dist.Bernoulli, stats.bernoulli, COUNTS[:2]),
}


@pytest.mark.parametrize(("make", "frozen", "counts"), CASES.values(), ids=CASES)
def test_value_and_gradient(make, frozen, counts):
    probs = torch.tensor(0.35, dtype=torch.float64, requires_grad=True)
    cdf = discrete_cdf(make(probs), torch.tensor(counts))
    np.testing.assert_allclose(cdf.detach(), frozen(0.35).cdf(counts), rtol=1e-9)
    step = 1e-6
    slope = (frozen(0.35 + step).cdf(counts) - frozen(0.35 - step).cdf(counts)) / (2 * step)
    ours = torch.stack([torch.autograd.grad(x, probs, retain_graph=True)[0] for x in cdf[:-1]])
    np.testing.assert_allclose(ours, slope[:-1], rtol=1e-5, atol=1e-8)


def test_categorical():
    fn = dist.Categorical(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
    cdf = discrete_cdf(fn, torch.tensor([[0.0], [1.0], [2.0]]))
    torch.testing.assert_close(cdf, torch.tensor([[0.2, 0.1], [0.7, 0.2], [1.0, 1.0]]))


def test_one_without_a_rule_raises():
    with pytest.raises(NotImplementedError):
        discrete_cdf(dist.BetaBinomial(1.0, 1.0, 3), torch.tensor(1.0))
