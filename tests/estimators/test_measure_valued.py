"""Measure-valued gradients: exact where they are known, zero where nothing depends on a coordinate."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..statistics import assert_mean

DOUBLE = torch.float64


def gradient(guide, model, seed=0, **options):
    """That of the parameter ``theta``."""
    pyro.clear_param_store()
    torch.manual_seed(seed)
    estimators = {"z": pre.MeasureValued()}
    elbo = pre.TraceEstimator_ELBO(estimators, max_plate_nesting=1, **options)
    elbo.loss_and_grads(model, guide)
    return pyro.param("theta").unconstrained().grad


def poisson_guide(size=3):
    log_rate = pyro.param("theta", torch.linspace(-0.5, 0.8, size, dtype=DOUBLE))
    pyro.sample("z", dist.Poisson(log_rate.exp()).to_event(1))


def same_prior(used):
    """A model in which only the first ``used`` coordinates do anything, and have the guide's law."""

    def model():
        log_rate = pyro.param("theta", torch.linspace(-0.5, 0.8, 3, dtype=DOUBLE)).detach()
        z = pyro.sample("z", dist.Poisson(log_rate.exp()).to_event(1))
        loc = (z[..., :used] ** 2).sum(-1)
        pyro.sample("y", dist.Normal(loc, 1.0), obs=torch.tensor(2.0, dtype=DOUBLE))

    return model


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_zero_where_nothing_depends_on_a_coordinate(mode):
    found = gradient(poisson_guide, same_prior(1), vectorize_particles=mode)
    assert (found[1:] == 0).all() and found[0] != 0


def test_poisson_rate_is_the_difference_that_one_more_makes():
    log_rate = torch.linspace(-0.5, 0.8, 3, dtype=DOUBLE)
    found = gradient(poisson_guide, same_prior(3), seed=4)
    torch.manual_seed(4)
    z = torch.poisson(log_rate.exp())

    def cost(z):
        return 0.5 * (2.0 - (z**2).sum(-1)) ** 2

    more = cost(z + torch.eye(3, dtype=DOUBLE)) - cost(z)
    torch.testing.assert_close(found, more * log_rate.exp())


def test_linear_costs_of_counts_have_no_variance():
    """One trial more, or one failure more, is worth the same at every value."""
    laws = {
        "binomial": lambda x: dist.Binomial(5, logits=x),
        "geometric": lambda x: dist.Geometric(logits=x),
        "negative_binomial": lambda x: dist.NegativeBinomial(2.0, logits=x),
    }
    for law in laws.values():

        def guide(law=law):
            fn = law(pyro.param("theta", torch.tensor([0.3, -0.6], dtype=DOUBLE)))
            pyro.sample("z", fn.to_event(1))

        def model(law=law):
            fn = law(pyro.param("theta", torch.tensor([0.3, -0.6], dtype=DOUBLE)).detach())
            z = pyro.sample("z", fn.to_event(1))
            pyro.factor("linear", -z.sum(-1))

        theta = torch.tensor([0.3, -0.6], dtype=DOUBLE, requires_grad=True)
        (slope,) = torch.autograd.grad(law(theta).mean.sum(), theta)
        for seed in range(5):
            torch.testing.assert_close(gradient(guide, model, seed), slope)


def test_costs_that_jump():
    def guide():
        loc, log_scale = pyro.param("theta", torch.tensor([0.3, -0.2], dtype=DOUBLE))
        pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    def model():
        loc, log_scale = pyro.param("theta", torch.tensor([0.3, -0.2], dtype=DOUBLE)).detach()
        z = pyro.sample("z", dist.Normal(loc, log_scale.exp()))
        pyro.factor("jump", -(z > 1.0).to(DOUBLE))

    theta = torch.tensor([0.3, -0.2], dtype=DOUBLE, requires_grad=True)
    above = 1 - dist.Normal(theta[0], theta[1].exp()).cdf(torch.tensor(1.0, dtype=DOUBLE))
    (slope,) = torch.autograd.grad(above, theta)
    assert_mean(torch.stack([gradient(guide, model, seed) for seed in range(400)]), slope)


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (lambda x: dist.Gamma(x.exp(), 1.0), "concentration"),
        (lambda x: dist.Weibull(1.0, x.exp()), "concentration"),
        (lambda x: dist.NegativeBinomial(x.exp(), logits=torch.zeros(())), "total_count"),
    ],
)
def test_parameters_without_a_pair(fn, name):
    def guide():
        pyro.sample("z", fn(pyro.param("theta", torch.zeros(()))))

    def model():
        pyro.sample("z", fn(torch.zeros(())))

    with pytest.raises(pre.EstimatorError, match=f"site 'z'.*{name} requires a gradient"):
        gradient(guide, model)


def test_unserved_distribution():
    def guide():
        pyro.sample("z", dist.Beta(1.0, pyro.param("theta", torch.ones(()))))

    with pytest.raises(pre.EstimatorError, match="site 'z': MeasureValued can't serve Beta"):
        gradient(guide, guide)


def test_trials_of_none():
    """Where there is nothing to try, nothing moves."""

    def guide():
        logits = pyro.param("theta", torch.zeros(2, dtype=DOUBLE))
        total = torch.tensor([0.0, 3.0], dtype=DOUBLE)
        pyro.sample("z", dist.Binomial(total, logits=logits).to_event(1))

    def model():
        total = torch.tensor([0.0, 3.0], dtype=DOUBLE)
        z = pyro.sample("z", dist.Binomial(total, torch.tensor(0.3, dtype=DOUBLE)).to_event(1))
        pyro.factor("f", -(z**2).sum(-1))

    found = gradient(guide, model)
    assert found[0] == 0 and found[1] != 0
