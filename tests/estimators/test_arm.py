import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators import Draw, Evaluations, Site

from .closed_form import CLASSES, COLUMNS, ROWS, Classes, Program, assert_same, gradients


def elbo_of(estimator):
    return pre.TraceEstimator_ELBO(estimator, max_plate_nesting=1)


def test_same_seed_closed_form():
    program = Program()
    actual = gradients(elbo_of(pre.ARM()), program, seed=5)
    torch.manual_seed(5)
    alpha, weight = program.parameters()
    u = 1 - torch.rand_like(program.logits)
    z, twin = ((x < alpha.sigmoid()).double() for x in (u, 1 - u))
    cost, twin_cost = (program.cost(x, alpha.detach(), weight) for x in (z, twin))
    expected = (twin_cost - cost).detach()[:, None] * (u - 0.5)
    assert_same(actual, expected, torch.autograd.grad((cost + twin_cost).sum() / 2, weight)[0])


def test_same_seed_closed_form_of_classes():
    program = Classes()
    actual = gradients(elbo_of(pre.ARM()), program, seed=5)
    torch.manual_seed(5)
    logits, weight = program.parameters()
    exponential = -torch.rand(ROWS, COLUMNS, CLASSES, dtype=torch.float64).log()
    share = exponential / exponential.sum(-1, keepdim=True)
    costs = torch.zeros(CLASSES, CLASSES, ROWS, dtype=torch.float64)
    total = 0.0
    for k in range(CLASSES):
        for j in range(k, CLASSES):
            order = list(range(CLASSES))
            order[k], order[j] = j, k
            z = (share[..., order].log() - logits).argmin(-1)
            cost = program.cost(z, logits.detach(), weight)
            costs[k, j] = costs[j, k] = cost.detach()
            if k < j or k == 0:  # the ordinary value once
                total = total + cost.sum() / 4
    expected = torch.zeros_like(share)
    for k in range(CLASSES):
        for j in range(CLASSES):
            gain = (costs[k, j] - costs[:, j].mean(0))[:, None]
            expected[..., k] += gain * (1 / CLASSES - share[..., j])
    assert_same(actual, expected, torch.autograd.grad(total, weight)[0])


@pytest.mark.parametrize("probability", [1e-6, 1 - 1e-6])
def test_rare_values_in_single_precision(probability):
    """The mean over the noise that leads to two different values, which is near its ends."""
    logit = torch.tensor(probability).logit().requires_grad_()
    fn, near = dist.Bernoulli(logits=logit), 1e-6 * torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    gradients = []
    for u in (*near, *(1 - near)):
        value, noise = (u < probability).float(), -u.logit().float()
        site = Site("z", fn, Draw(value, noise=noise), fn.log_prob(value), pre.ARM())
        branches = site.estimator.alternatives(site)
        costs = 2 * torch.cat([value[None], branches[0].values(0, 1)])
        assert costs[0] != costs[1]
        surrogate = site.estimator.surrogate(Evaluations(site, costs, branches))
        gradients.append(torch.autograd.grad(surrogate, logit)[0])
    found = 2e-6 * torch.stack(gradients).mean()  # 2e-6: of the noise leads there
    exact = torch.tensor(2 * probability * (1 - probability))
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)


def test_one_class():
    def guide():
        pyro.sample("z", dist.Categorical(logits=pyro.param("x", torch.zeros(1))))

    def model():
        pyro.sample("z", dist.Categorical(logits=torch.zeros(1)))

    for estimator in (pre.ARM(), pre.ARMS(), pre.DisARM()):
        elbo = pre.TraceEstimator_ELBO(estimator)
        assert elbo.loss_and_grads(model, guide) == 0
        assert not pyro.param("x").grad
