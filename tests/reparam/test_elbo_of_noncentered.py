"""Whatever is reparameterised, the ELBO and its gradient are those of the programs as written."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceGraph_ELBO, TraceMeanField_ELBO

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import StandardizeReparam

from ..statistics import assert_mean
from .cases import CASES, DTYPE
from .programs import ALL, exact, grid, log_likelihood, rows


def number(x):
    return torch.tensor(x, dtype=DTYPE)


@pytest.mark.parametrize("case, combination", ALL, ids=[f"{c}-{name}" for c, name in ALL])
def test_elbo_keeps_its_meaning(case, combination):
    assert_mean(rows(case, combination, 20_000), exact(case, on_noise=combination == "model"))


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO, TraceMeanField_ELBO, pre.TraceEstimator_ELBO])
@pytest.mark.parametrize("on_model", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_elbos(case, on_model, elbo):
    q = torch.tensor(case.q, dtype=DTYPE).expand(5000, -1).clone().requires_grad_()

    def model():
        with pyro.plate("draws", 5000):
            pyro.sample("x", case.fn(torch.tensor(case.p, dtype=DTYPE)))

    def guide():
        with pyro.plate("draws", 5000):
            pyro.sample("x", case.fn(q))

    if on_model:
        model = case.reparameterised(model, guide=False)
    guide = case.reparameterised(guide, guide=True)
    if elbo is TraceGraph_ELBO:
        elbo().loss_and_grads(model, guide)
    else:
        elbo().differentiable_loss(model, guide).backward()
    p, phi = (torch.tensor(x, dtype=DTYPE, requires_grad=True) for x in (case.p, case.q))
    points, weights = grid(case.fn(phi))
    log_q = case.fn(phi).log_prob(points)
    kl = (weights * log_q.exp() * (log_q - case.fn(p).log_prob(points))).sum()
    assert_mean(q.grad, torch.autograd.grad(kl, phi)[0])


@pytest.mark.parametrize("on_guide", [False, True])
@pytest.mark.parametrize("on_model", [False, True])
def test_downstream_of_a_site_with_alternatives(on_model, on_guide):
    """Runs at alternative values of ``z`` map the noise of ``x`` anew."""
    leaves = [number([p] * 3000).requires_grad_() for p in (0.4, 0.7, -0.3, 0.5)]

    def law(z, parameters):
        logit, shift, log_scale, slope = parameters
        prior = dist.Normal(slope * z, 1.5)
        return logit, dist.Normal(shift * z - 0.2, log_scale.exp() * (1 + 0.5 * z)), prior

    def model():
        with pyro.plate("draws", 3000):
            z = pyro.sample("z", dist.Bernoulli(number(0.5)))
            x = pyro.sample("x", law(z, leaves)[2])
            pyro.factor("y", log_likelihood(x, 0))

    def guide():
        with pyro.plate("draws", 3000):
            infer = {"estimator": pre.DisARM()}
            z = pyro.sample("z", dist.Bernoulli(logits=leaves[0]), infer=infer)
            pyro.sample("x", law(z, leaves)[1])

    if on_model:
        model = poutine.reparam(model, config={"x": StandardizeReparam()})
    if on_guide:
        guide = poutine.reparam(guide, config={"x": StandardizeReparam(guide=True)})
    pre.TraceEstimator_ELBO().differentiable_loss(model, guide).backward()

    parameters = [leaf[0].detach().requires_grad_() for leaf in leaves]
    points, weights = grid(dist.Normal(number(0.0), 1.0))
    loss = number(0.0)
    for z in (number(0.0), number(1.0)):
        logit, q, p = law(z, parameters)
        log_z = dist.Bernoulli(logits=logit).log_prob(z)
        log_q = q.log_prob(points)
        cost = log_z - number(0.5).log() + log_q - p.log_prob(points) - log_likelihood(points, 0)
        loss = loss + (log_z.exp() * weights * log_q.exp() * cost).sum()
    exact = torch.stack(torch.autograd.grad(loss, parameters))
    assert_mean(torch.stack([leaf.grad for leaf in leaves], -1), exact)
