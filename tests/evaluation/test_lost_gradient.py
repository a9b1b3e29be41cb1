"""Relaxed values that a program reads, or loses the gradient of, under our own ELBO."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext import distributions as d
from pyro_reparam_ext.reparam import AutoRelax

TABLE = torch.tensor([0.0, 4.0])
MODES = [True, "vmap", False]


def programs(cost, make):
    def model():
        z = pyro.sample("z", make(0.0))
        cost(z)

    def guide():
        pyro.sample("z", make(pyro.param("logits", torch.tensor(-1.0))))

    return model, guide


def discrete(logits):
    return dist.Bernoulli(logits=logits * torch.ones(()))


def relaxed(logits):
    return d.RelaxedBernoulli(torch.tensor(0.5), logits=logits * torch.ones(()))


def of_pyro(logits):
    return dist.RelaxedBernoulli(torch.tensor(0.5), logits=logits * torch.ones(()))


def hard(logits):
    return d.StraightThroughBernoulli(torch.tensor(0.5), logits=logits * torch.ones(()))


SOFT = {
    "StraightThrough": (discrete, pre.StraightThrough()),
    "StraightThroughGumbelSoftmax": (discrete, pre.StraightThroughGumbelSoftmax(0.5)),
    "GumbelSoftmax": (discrete, pre.GumbelSoftmax(0.5, score="discrete")),
    "relaxed": (relaxed, None),
    "relaxed, of Pyro": (of_pyro, None),
    "straight-through": (hard, pre.Pathwise()),
}
soft = pytest.mark.parametrize(("make", "estimator"), SOFT.values(), ids=SOFT)


@soft
@pytest.mark.parametrize("mode", [True, False])
def test_value_read_as_a_number(make, estimator, mode):
    model, guide = programs(lambda z: pyro.factor("y", TABLE[int(z.item() > 0.5)]), make)
    elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode)
    with pytest.raises(pre.EstimatorError, match=r"'z'.*test_lost_gradient.py:\d+.*LocalExpectation"):
        elbo.loss_and_grads(model, guide)


@soft
@pytest.mark.parametrize("mode", MODES)
def test_cost_without_a_gradient(make, estimator, mode):
    model, guide = programs(lambda z: pyro.factor("y", TABLE[z.long()]), make)
    elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode)
    with pytest.warns(UserWarning, match="'z'.*'y' of the model.*without a gradient"):
        elbo.loss_and_grads(model, guide)
    elbo.loss_and_grads(model, guide)


@soft
@pytest.mark.parametrize("mode", MODES)
def test_cost_with_a_gradient(make, estimator, mode):
    model, guide = programs(lambda z: pyro.factor("y", z * TABLE[1]), make)
    pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode).loss_and_grads(model, guide)


def test_remedy_for_a_relaxed_site():
    """An estimator for values of the support needs a discrete site."""
    relax = AutoRelax(0.5)
    model, guide = programs(lambda z: pyro.factor("y", TABLE[int(z > 0.5)]), discrete)
    with pytest.raises(pre.EstimatorError, match="Leave the site discrete, and use"):
        pre.TraceEstimator_ELBO().loss_and_grads(relax(model), relax(guide))
    elbo = pre.TraceEstimator_ELBO(pre.LocalExpectation(), vectorize_particles=False)
    elbo.loss_and_grads(model, guide)
    q = pyro.param("logits").sigmoid().detach()
    exact = -q * (1 - q) * (4 - pyro.param("logits").detach())
    torch.testing.assert_close(pyro.param("logits").grad, exact)
