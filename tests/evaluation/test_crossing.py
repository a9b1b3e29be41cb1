"""Costs that cross the elements of a plate are charged to all of them."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..slow import one_in
from ..statistics import assert_mean

Y = torch.tensor([0.5, -0.3, 1.2], dtype=torch.float64)
NAMES = ("a", "b", "c")


def _tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def _parameters():
    return [pyro.param(n, _tensor(x)) for n, x in zip(NAMES, (-0.63, 0.81, 0.53), strict=True)]


class Returning:
    """``z`` in a plate, ``w`` outside that depends on all of it, ``y`` inside that depends on ``w``."""

    @staticmethod
    def guide():
        a, b, c = _parameters()
        with pyro.plate("plate", 3, dim=-1):
            z = pyro.sample("z", dist.Bernoulli(logits=a))
        pyro.sample("w", dist.Bernoulli(logits=b + c * z.sum(-1, keepdim=True)))

    @staticmethod
    def model():
        plate = pyro.plate("plate", 3, dim=-1)
        with plate:
            pyro.sample("z", dist.Bernoulli(logits=_tensor(-0.46)))
        w = pyro.sample("w", dist.Bernoulli(logits=_tensor(1.06)))
        with plate:
            pyro.sample("y", dist.Normal(0.3 + 1.7 * w, 0.8), obs=Y)

    @staticmethod
    def log_joint(z, w):
        return dist.Normal(0.3 + 1.7 * w, 0.8).log_prob(Y).sum()


class Mixing(Returning):
    """The program mixes the elements of a plate, as batch normalisation does."""

    @staticmethod
    def model():
        with pyro.plate("plate", 3, dim=-1):
            z = pyro.sample("z", dist.Bernoulli(logits=_tensor(-0.46)))
            centred = z - 2 * z.mean(-1, keepdim=True)
            pyro.sample("y", dist.Normal(1.7 * centred, 0.8), obs=Y)
        pyro.sample("w", dist.Bernoulli(logits=_tensor(1.06)))

    @staticmethod
    def log_joint(z, w):
        return dist.Normal(1.7 * (z - 2 * z.mean()), 0.8).log_prob(Y).sum()


def exact(program):
    a, b, c = leaves = [_tensor(x).requires_grad_() for x in (-0.63, 0.81, 0.53)]
    loss = _tensor(0.0)
    for *z, w in itertools.product((0.0, 1.0), repeat=4):
        z, w = _tensor(z), _tensor(w)
        log_q = dist.Bernoulli(logits=a).log_prob(z).sum()
        log_q = log_q + dist.Bernoulli(logits=b + c * z.sum()).log_prob(w)
        log_p = dist.Bernoulli(logits=_tensor(-0.46)).log_prob(z).sum()
        log_p = log_p + dist.Bernoulli(logits=_tensor(1.06)).log_prob(w) + program.log_joint(z, w)
        loss = loss + log_q.exp() * (log_q - log_p)
    return torch.stack([loss.detach(), *torch.autograd.grad(loss, leaves)])


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("program", [Returning, Mixing])
@pytest.mark.parametrize(
    ("estimator", "particles"),
    one_in(3, [(pre.DisARM(), 1), (pre.ScoreFunction(), 1), (pre.REBAR(), 1), (pre.LeaveOneOut(), 2)]),
    ids=["DisARM", "ScoreFunction", "REBAR", "LeaveOneOut"],
)
def test_mean_of_gradient(estimator, particles, program, mode):
    many = 100 if mode else 2
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=particles * many, vectorize_particles=mode)
    samples = gradients(elbo, program.model, program.guide, NAMES, 30 if mode else 100)
    assert_mean(samples, exact(program))


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("program", [Returning, Mixing])
@pytest.mark.parametrize("estimator", [pre.Enumeration(), pre.LocalExpectation()], ids=repr)
def test_what_changes_all_elements_at_once_raises(estimator, program, mode):
    elbo = pre.TraceEstimator_ELBO({"z": estimator}, vectorize_particles=mode)
    with pytest.raises(pre.EstimatorError, match="'z'.*plate.*Use"):
        elbo.loss_and_grads(program.model, program.guide)


def test_independent_elements_keep_their_own_costs():
    def guide():
        with pyro.plate("plate", 3):
            pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.zeros(3))))

    def model():
        with pyro.plate("plate", 3):
            z = pyro.sample("z", dist.Bernoulli(0.3))
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y.float())

    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction())
    for _ in range(3):
        elbo.loss_and_grads(model, guide)
    assert not elbo.evaluate(model, guide, (), {})[0].program.crossed
