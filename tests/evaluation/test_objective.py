"""Objectives other than the mean over particles: bounds, from the same evaluations."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation.objective import LogMeanExp, Mean
from pyro_reparam_ext.study.draws import Draws
from pyro_reparam_ext.study.elbo_call import ElboCall
from pyro_reparam_ext.study.sampler import Sampler

from ..sampling import gradients
from ..statistics import assert_mean

LOGITS = torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64)
WEIGHT = torch.tensor([1.1, -0.6, 0.8], dtype=torch.float64)
Y = torch.tensor([0.3, 1.4], dtype=torch.float64)


class Bound(pre.TraceEstimator_ELBO):
    """The importance-weighted bound."""

    objective = LogMeanExp()


def guide():
    logits = pyro.param("logits", LOGITS.clone())
    z = pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))
    shift = pyro.param("shift", torch.tensor(0.3, dtype=torch.float64))
    pyro.sample("w", dist.Bernoulli(logits=shift + z.sum(-1, keepdim=True) - 1.0).to_event(1))


def model():
    weight = pyro.param("weight", WEIGHT.clone())
    z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.4, dtype=torch.float64)).to_event(1))
    w = pyro.sample("w", dist.Bernoulli(torch.tensor([0.3], dtype=torch.float64)).to_event(1))
    loc = (z * weight).sum(-1) + 0.5 * w[..., 0]
    with pyro.plate("data", 2, dim=-1):
        pyro.sample("y", dist.Normal(loc, 0.7), obs=Y)


def exact(num_particles):
    """The negative bound and its gradient, by all joint values of all particles."""
    logits, weight = LOGITS.clone().requires_grad_(), WEIGHT.clone().requires_grad_()
    shift = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    values = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    z, w = values[:, :3], values[:, 3]

    def bernoulli(logits, value):
        return dist.Bernoulli(logits=logits).log_prob(value)

    q = bernoulli(logits, z).sum(-1) + bernoulli(shift + z.sum(-1) - 1, w)
    p = dist.Bernoulli(torch.tensor(0.4, dtype=torch.float64)).log_prob(z).sum(-1)
    p = p + dist.Bernoulli(torch.tensor(0.3, dtype=torch.float64)).log_prob(w)
    loc = (z * weight).sum(-1) + 0.5 * w
    p = p + dist.Normal(loc[:, None], 0.7).log_prob(Y).sum(-1)
    joint = torch.cartesian_prod(*[torch.arange(16)] * num_particles).reshape(-1, num_particles)
    bound = (p - q)[joint].logsumexp(-1) - torch.tensor(float(num_particles)).log()
    loss = -(q[joint].sum(-1).exp() * bound).sum()
    found = torch.autograd.grad(loss, [logits, shift, weight])
    return torch.cat([loss.detach()[None], *(x.reshape(-1) for x in found)])


ESTIMATORS = [
    pre.ScoreFunction(),
    pre.LeaveOneOut(),
    pre.DisARM(),
    pre.REBAR(),
    pre.LocalExpectation(),
]
NAMES = ("logits", "shift", "weight")


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda x: type(x).__name__)
def test_gradient_of_the_bound(estimator, mode):
    elbo = Bound(estimator, num_particles=2, vectorize_particles=mode, max_plate_nesting=2)
    sampler = Sampler(ElboCall(elbo, model, guide, (), {}))
    chunks = list(Draws(sampler, list(NAMES)).chunks(16000))
    rows = [torch.cat([c[name].reshape(len(c[name]), -1) for c in chunks]) for name in NAMES]
    assert_mean(torch.cat(rows, 1), exact(2)[1:])


@pytest.mark.parametrize("estimator", [pre.LeaveOneOut(), pre.DisARM()], ids=lambda x: type(x).__name__)
def test_bound_in_a_loop(estimator):
    elbo = Bound(estimator, num_particles=2, vectorize_particles=False)
    assert_mean(gradients(elbo, model, guide, NAMES, 150), exact(2))


@pytest.mark.parametrize("objective", [Mean(), LogMeanExp()], ids=lambda x: type(x).__name__)
def test_replaced_is_the_value_with_one_weight_replaced(objective):
    weights, others = torch.randn(5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    replaced = objective.replaced(weights, others)
    for row, particle in itertools.product(range(3), range(5)):
        changed = weights.clone()
        changed[particle] = others[row, particle]
        torch.testing.assert_close(replaced[row, particle], objective.value(changed))
    torch.testing.assert_close(objective.replaced(weights, weights), objective.value(weights).expand(5))


@pytest.mark.parametrize(
    "estimator", [pre.TaylorControlVariate(), pre.StickingTheLanding(), pre.AnalyticKL()], ids=repr
)
def test_what_is_right_for_a_mean_alone(estimator):
    """Also beside a site of the bound's own estimator, which differentiates in another way."""

    def program(infer=None):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0), infer=infer)
        pyro.sample("w", dist.Normal(pyro.param("other", torch.tensor(0.0)), 1.0))

    elbo = pre.ImportanceWeighted_ELBO(num_particles=2)
    with pytest.raises(pre.EstimatorError, match="'z'.*bound by several particles.*dreg"):
        elbo.loss_and_grads(program, lambda: program({"estimator": estimator}))


def test_what_a_bound_cannot_take_apart():
    def in_a_plate():
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.zeros(2))))
        pyro.sample("outside", dist.Normal(0.0, 1.0))

    for estimator in (pre.Enumeration(), pre.LocalExpectation()):
        elbo = Bound(estimator, num_particles=2, max_plate_nesting=2)
        with pytest.raises(pre.EstimatorError, match="site 'z'.*bound by several particles"):
            elbo.loss_and_grads(in_a_plate, in_a_plate)
