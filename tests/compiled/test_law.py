"""The gradients of a compiled step have the law that is known of an eager one's."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.optim import SGD
from scipy import stats

import pyro_reparam_ext as pre

from ..slow import one_in
from ..statistics import assert_follows, assert_mean, assert_p
from .steps import GraphSVI

DRAWS = 3000


def gradients(cls, model, guide, name, elbo):
    """Draws of the gradient of a parameter, put back after each step."""
    svi = cls(model, guide, SGD({"lr": 1.0}), elbo)
    svi.step()
    svi.step()
    param = pyro.param(name).unconstrained()
    before, found = torch.tensor(0.3), []
    for _ in range(DRAWS):
        with torch.no_grad():
            param.fill_(before)
        svi.step()
        found.append(before - param.detach())
    return torch.stack(found).double()


@pytest.mark.parametrize("cls", one_in(2, [GraphSVI, pre.CompiledSVI]))
def test_a_pathwise_gradient(cls):
    """The derivative of z^2 / 2 + (1 - z)^2 / 2 at z ~ N(m, 1): of mean 2m - 1 and variance 4."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.3)), 1.0))

    found = gradients(cls, model, guide, "m", pre.TraceEstimator_ELBO())
    assert_follows(found, stats.norm(2 * 0.3 - 1, 2).cdf)
    assert_p(stats.spearmanr(found[1:], found[:-1]).pvalue)


@pytest.mark.parametrize("estimator", [pre.ScoreFunction(), pre.DisARM()])
def test_a_gradient_of_a_discrete_site(estimator):
    """Mean and mean square against all values of what is drawn: f(z) (z - p), or DisARM's of two."""
    loc = torch.tensor(1.5)

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.4))
        pyro.sample("x", dist.Normal(z, 1.0), obs=loc)

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.3))))

    p = torch.sigmoid(torch.tensor(0.3, dtype=torch.float64))
    z = torch.tensor([0.0, 1.0], dtype=torch.float64)
    costs = torch.distributions.Bernoulli(p).log_prob(z) - torch.distributions.Bernoulli(0.4).log_prob(
        z
    )
    costs = costs - torch.distributions.Normal(z, 1.0).log_prob(loc.double())
    if isinstance(estimator, pre.DisARM):  # the two differ with probability 2 min(p, 1 - p)
        differ = 2 * torch.minimum(p, 1 - p)
        values = torch.stack([0 * p, (costs[1] - costs[0]) * torch.maximum(p, 1 - p) / 2])
        weights = torch.stack([1 - differ, differ])
    else:
        values, weights = costs * (z - p), torch.stack([1 - p, p])
    found = gradients(GraphSVI, model, guide, "l", pre.TraceEstimator_ELBO(estimator))
    for power in (1, 2):
        assert_mean(found[:, None] ** power, (weights * values**power).sum()[None])
    assert all((found[:, None] - values).abs().min(1).values < 1e-5)
