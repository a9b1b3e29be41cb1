"""Common random numbers: the right law, the same value where nothing changed, the right gradient."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.coupling import couple
from pyro_reparam_ext.estimators.protocol import Draw, Site

from ...families import FAMILIES
from ...sampling import gradients
from ...statistics import assert_mean

DRAWS = 20_000


@pytest.mark.parametrize("family", FAMILIES)
def test_coupled_value_follows_the_new_law(family):
    family = FAMILIES[family]
    old, new = torch.randn(2, family.size, dtype=torch.float64)
    value = family.make(old.expand(DRAWS, -1)).sample()
    coupled = couple(family.make(old.expand(DRAWS, -1)), value, family.make(new.expand(DRAWS, -1)))
    values, weights = family.expect(new)
    features = family.features(values)
    exact = (weights.unsqueeze(-1) * features).sum(0)
    assert_mean(family.features(coupled).reshape(DRAWS, -1), exact.reshape(-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_unchanged_distribution_keeps_its_value_exactly(family):
    family = FAMILIES[family]
    theta = torch.randn(50, family.size, dtype=torch.float64)
    changed = theta.clone()
    changed[::2] += 0.5
    value = family.make(theta).sample()
    coupled = couple(family.make(theta), value, family.make(changed))
    assert torch.equal(coupled[1::2], value[1::2])


def _zero_weight(downstream):
    def guide():
        logit = pyro.param("logit", torch.tensor(0.3, dtype=torch.float64))
        weight = pyro.param("weight", torch.tensor(0.0, dtype=torch.float64))
        z = pyro.sample("z", dist.Bernoulli(logits=logit))
        pyro.sample("e", downstream(weight * z))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.6, dtype=torch.float64)))
        e = pyro.sample("e", downstream(torch.zeros((), dtype=torch.float64)))
        obs = torch.tensor(2.5, dtype=torch.float64)
        mean = e if e.dim() == z.dim() else e[..., 0]
        pyro.sample("y", dist.Normal(mean * (z - 0.3), 1.0), obs=obs)

    return model, guide


@pytest.mark.parametrize(
    "downstream",
    [
        lambda x: dist.Normal(x, 1.0),
        lambda x: dist.Gamma(2.0 + x, torch.ones_like(x)),
        lambda x: dist.LogNormal(x, 0.3),
        lambda x: dist.InverseGamma(4.0 + x, torch.ones_like(x)),
        lambda x: dist.MultivariateNormal(torch.stack([x, x], -1), torch.eye(2, dtype=x.dtype)),
        lambda x: dist.Dirichlet(torch.stack([2.0 + x, 3.0 - x], -1)),
    ],
    ids=["Normal", "Gamma", "LogNormal", "InverseGamma", "MultivariateNormal", "Dirichlet"],
)
def test_equal_parameters_of_different_functions(downstream):
    """At ``weight = 0`` the distribution of ``e`` is the same for both values of ``z``."""
    model, guide = _zero_weight(downstream)
    samples = []
    for estimator in (pre.DisARM(), pre.Enumeration()):
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO({"z": estimator}, num_particles=500)
        samples.append(gradients(elbo, model, guide, ["logit", "weight"], 30))
    difference = samples[0] - samples[1]
    assert_mean(difference, torch.zeros(3))


@pytest.mark.parametrize(
    "downstream",
    [lambda x: dist.Bernoulli(logits=x), lambda x: dist.Gamma(2.0 + x, torch.ones_like(x))],
    ids=["Bernoulli", "Gamma"],
)
def test_cost_of_an_independent_site_cancels(downstream):
    """A site downstream in time but not in law contributes no variance to DisARM's gradient."""
    big = torch.tensor(50.0, dtype=torch.float64)

    def guide():
        logit = pyro.param("logit", torch.tensor(0.3, dtype=torch.float64))
        z = pyro.sample("z", dist.Bernoulli(logits=logit))
        pyro.sample("e", downstream(0.0 * z))

    def model():
        pyro.sample("z", dist.Bernoulli(logits=torch.tensor(0.3, dtype=torch.float64)))
        e = pyro.sample("e", downstream(torch.tensor(0.0, dtype=torch.float64)))
        pyro.sample("y", dist.Normal(big * e, 1.0), obs=big)

    elbo = pre.TraceEstimator_ELBO({"z": pre.DisARM()})
    samples = gradients(elbo, model, guide, ["logit"], 30)
    torch.testing.assert_close(samples[:, 1], torch.zeros(30, dtype=torch.float64))


@pytest.mark.parametrize("make", [dist.Gamma, dist.Normal, dist.Gumbel])
def test_kept_value_moves_as_a_draw_of_the_new_distribution(make):
    """Both scale parameters: the velocity of a draw in its scale is known at its value."""
    one = torch.ones(20, dtype=torch.float64)
    scale = one.clone().requires_grad_()
    value = make(2.0 * one, one).sample()
    coupled = couple(make(2.0 * one, one), value, make(2.0 * one, scale))
    assert torch.equal(coupled, value)
    exact = {
        dist.Gamma: -value,
        dist.Normal: value - 2.0,
        dist.Gumbel: value - 2.0,
    }
    (gradient,) = torch.autograd.grad(coupled.sum(), scale)
    torch.testing.assert_close(gradient, exact[make])


def test_downstream_delta_in_a_guide():
    """Its event dims are its own to say: its constraints don't."""

    def guide():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.3))))
        pyro.sample("d", dist.Delta(torch.stack([z, 1 - z], -1), event_dim=1))

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.5))
        d = pyro.sample("d", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(d[..., 0] + z, 1.0), obs=torch.tensor(1.0))

    for estimator in (pre.DisARM(), pre.LocalExpectation(), pre.ScoreFunction()):
        elbo = pre.TraceEstimator_ELBO({"z": estimator})
        elbo.loss_and_grads(model, guide)
    exact = pre.TraceEstimator_ELBO({"z": pre.Enumeration()})
    pyro.clear_param_store()
    exact.loss_and_grads(model, guide)
    enumerated = pyro.param("logit").grad.clone()
    pyro.param("logit").grad = None
    elbo = pre.TraceEstimator_ELBO({"z": pre.LocalExpectation()})
    elbo.loss_and_grads(model, guide)
    torch.testing.assert_close(pyro.param("logit").grad, enumerated)


def test_redrawn_straight_through_value_keeps_its_gradient():
    """As a discrete law, which it is, it would be redrawn without one."""
    logits = torch.randn(20, requires_grad=True)
    old, new = (pre.distributions.StraightThroughBernoulli(0.5, logits=x) for x in (logits, logits + 1))
    draw = Draw(old.sample())
    site = Site("z", old, draw, old.log_prob(draw.value), pre.Pathwise())
    value = pre.Pathwise().redraw(site, new).value
    assert ((value == 0) | (value == 1)).all()
    assert (torch.autograd.grad(value.sum(), logits)[0] > 0).all()


@pytest.mark.parametrize("name", ["RelaxedBernoulli", "RelaxedOneHotCategorical", "HardConcrete"])
def test_unchanged_relaxed_site_keeps_its_value(name):
    logits = torch.randn(4, 3)
    make = getattr(pre.distributions, name)
    old, changed = (
        make(0.5, logits=x) for x in (logits, logits + torch.tensor([[1.0], [0], [0], [1]]))
    )
    value = old.sample()
    coupled = couple(old, value, changed)
    assert torch.equal(coupled[1:3], value[1:3])
    assert not torch.equal(coupled[::3], value[::3])
