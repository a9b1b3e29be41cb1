"""Sites that are scored with the parameters of the guide held."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.draws import Draws
from pyro_reparam_ext.study.elbo_call import ElboCall
from pyro_reparam_ext.study.sampler import Sampler

from ..compiled.steps import assert_same_steps
from ..slow import one_in
from ..statistics import assert_mean

DOUBLE = torch.float64


AT_MODEL = {"logit": -0.4, "a": -0.1, "c": 0.8, "s": 1.2, "slope": 0.5, "shift": -0.2, "t": 0.7}
ELSEWHERE = {"logit": 0.3, "a": 0.6, "c": -0.4, "s": 0.9, "slope": -0.3, "shift": 0.4, "t": 1.1}
SIZE = 3
MODES = [True, "vmap", False]


def number(x):
    return torch.tensor(x, dtype=DOUBLE)


class Layers:
    """A coin, a normal variable whose mean it moves, and normal variables in a plate after that one.

    The last are moved by a module, so that there are parameters of every kind.
    """

    def __init__(self, start):
        self.start = start
        self.linear = nn.Linear(1, 1).double()
        with torch.no_grad():
            self.linear.weight.fill_(start["slope"])
            self.linear.bias.fill_(start["shift"])

    def param(self, name, **options):
        return pyro.param(name, number(self.start[name]), **options)

    def guide(self):
        linear = pyro.module("linear", self.linear)
        b = pyro.sample("b", dist.Bernoulli(logits=self.param("logit")))
        scale = self.param("s", constraint=dist.constraints.positive)
        z = pyro.sample("z", dist.Normal(self.param("a") + self.param("c") * b, scale))
        with pyro.plate("data", SIZE):
            loc = linear(z.unsqueeze(-1)).squeeze(-1)
            self.last(loc, self.param("t", constraint=dist.constraints.positive))

    def last(self, loc, scale):
        pyro.sample("w", dist.Normal(loc, scale))

    def model(self):
        b = pyro.sample("b", dist.Bernoulli(logits=number(AT_MODEL["logit"])))
        loc = AT_MODEL["a"] + AT_MODEL["c"] * b
        z = pyro.sample("z", dist.Normal(loc, number(AT_MODEL["s"])))
        with pyro.plate("data", SIZE):
            loc = AT_MODEL["slope"] * z + AT_MODEL["shift"]
            pyro.sample("w", dist.Normal(loc, number(AT_MODEL["t"])))

    def exact(self):
        """The gradient of the divergence, averaged over the coin, in the order of :data:`NAMES`."""
        p = {name: number(x).requires_grad_() for name, x in self.start.items()}
        free = {name: p[name].log() if name in "st" else p[name] for name in p}
        scales = {name: free[name].exp() for name in "st"}
        coin = dist.Bernoulli(logits=p["logit"])
        prior = dist.Bernoulli(logits=number(AT_MODEL["logit"]))
        total = torch.zeros((), dtype=DOUBLE)
        for b in (0.0, 1.0):
            loc, at = p["a"] + p["c"] * b, AT_MODEL["a"] + AT_MODEL["c"] * b
            mean = number(b)
            cost = coin.log_prob(mean) - prior.log_prob(mean)
            cost = cost + normal_kl((loc - at) ** 2, scales["s"], AT_MODEL["s"])
            slope, shift = p["slope"] - AT_MODEL["slope"], p["shift"] - AT_MODEL["shift"]
            square = (slope * loc + shift) ** 2 + slope**2 * scales["s"] ** 2
            cost = cost + SIZE * normal_kl(square, scales["t"], AT_MODEL["t"])
            total = total + coin.log_prob(mean).exp() * cost
        leaves = [free[name] for name in ("a", "c", "s", "slope", "shift", "t")]
        return torch.stack(torch.autograd.grad(total, leaves))


def normal_kl(square, scale, prior):
    return (square + scale**2) / (2 * prior**2) - 0.5 - (scale / prior).log()


NAMES = ["a", "c", "s", "linear$$$weight", "linear$$$bias", "t"]


def gradients(program, mode, count, coin):
    estimators = {"b": coin, "z": pre.StickingTheLanding(), "w": pre.StickingTheLanding()}
    elbo = pre.TraceEstimator_ELBO(estimators, vectorize_particles=mode, max_plate_nesting=1)
    sampler = Sampler(ElboCall(elbo, program.model, program.guide, (), {}))
    chunks = list(Draws(sampler, NAMES).chunks(count))
    return torch.cat(
        [torch.cat([c[name].reshape(len(c[name]), -1) for c in chunks]) for name in NAMES], 1
    )


@pytest.mark.parametrize("coin", [pre.ScoreFunction(), pre.DisARM(), pre.REBAR()], ids=repr)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_where_the_guide_is_the_posterior(mode, coin):
    found = gradients(Layers(AT_MODEL), mode, 20, coin)
    assert found.abs().max() < 1e-12


@pytest.mark.parametrize(
    "coin", one_in(3, [pre.ScoreFunction(), pre.DisARM(), pre.REBAR()], 1), ids=repr
)
@pytest.mark.parametrize("mode", MODES)
def test_unbiased_elsewhere(mode, coin):
    program = Layers(ELSEWHERE)
    assert_mean(gradients(program, mode, 4000 if mode else 400, coin), program.exact())


@pytest.mark.parametrize("mode", one_in(3, MODES))
def test_captured(mode):
    def programs():
        estimators = {"b": pre.DisARM(), "z": pre.StickingTheLanding(), "w": pre.StickingTheLanding()}
        elbo = pre.TraceEstimator_ELBO(estimators, vectorize_particles=mode, max_plate_nesting=1)
        program = Layers(ELSEWHERE)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


def test_the_loss_is_that_of_other_estimators():
    losses = []
    for estimator in (pre.Pathwise(), pre.StickingTheLanding()):
        pyro.set_rng_seed(0)
        program = Layers(ELSEWHERE)
        elbo = pre.TraceEstimator_ELBO({"z": estimator, "w": estimator}, num_particles=4)
        losses.append(elbo.differentiable_loss(program.model, program.guide).detach())
        pyro.clear_param_store()
    torch.testing.assert_close(*losses)


class Noisy(Layers):
    """Draws a part of the mean outside of any sample site."""

    def last(self, loc, scale):
        pyro.sample("w", dist.Normal(loc + torch.randn(SIZE, dtype=DOUBLE), scale))


@pytest.mark.parametrize("mode", MODES)
def test_noise_outside_of_sites_is_refused(mode):
    program = Noisy(ELSEWHERE)
    elbo = pre.TraceEstimator_ELBO({"w": pre.StickingTheLanding()}, vectorize_particles=mode)
    with pytest.raises(pre.EstimatorError, match="site 'w': .*outside of its sample sites"):
        elbo.loss_and_grads(program.model, program.guide)
