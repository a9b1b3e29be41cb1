"""Which costs depend on which site."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoDiagonalNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.inspection.dependent_costs import DependentCosts


def model():
    a = pyro.sample("a", dist.Bernoulli(0.5))
    with pyro.plate("rows", 3):
        b = pyro.sample("b", dist.Bernoulli(0.3 + 0.2 * a))
        pyro.sample("x", dist.Normal(b, 1.0), obs=torch.zeros(3))
    pyro.sample("y", dist.Normal(a, 1.0), obs=torch.tensor(0.0))
    pyro.sample("of_all", dist.Normal(b.sum(-1), 1.0), obs=torch.tensor(0.0))


def guide():
    a = pyro.sample("a", dist.Bernoulli(logits=pyro.param("h", torch.tensor(0.0))))
    with pyro.plate("rows", 3):
        pyro.sample("b", dist.Bernoulli(0.2 + 0.5 * a))


def dependent(model, guide):
    elbo = pre.TraceEstimator_ELBO(num_particles=2, vectorize_particles="vmap")
    (costs,) = elbo.evaluate(model, guide, (), {})
    return DependentCosts.of(costs)


def test_terms_of_guide_and_model():
    found = dependent(model, guide)
    assert found.words("a") == "q(a) q(b) p(a) p(b) p(x) p(y) p(of_all)"
    assert found.words("b") == "q(b) p(b) p(x) p(of_all)"


def test_a_cost_outside_of_a_plate():
    found = dependent(model, guide)
    assert found.are_inside("a")
    assert not found.are_inside("b")


def test_a_cost_outside_of_a_plate_that_depends_on_a_later_site_in_it():
    def chain():
        with pyro.plate("rows", 3):
            a = pyro.sample("a", dist.Bernoulli(0.5))
            b = pyro.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
        return b

    def outside():
        pyro.sample("y", dist.Normal(chain().sum(-1), 1.0), obs=torch.tensor(0.0))

    assert not dependent(outside, chain).are_inside("a")


def test_an_element_that_depends_on_another():
    def crossing():
        with pyro.plate("rows", 3):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(b.cumsum(-1), 1.0), obs=torch.zeros(3))

    def bits():
        with pyro.plate("rows", 3):
            pyro.sample("b", dist.Bernoulli(logits=pyro.param("h", torch.zeros(3))))

    assert not dependent(crossing, bits).are_inside("b")


def test_what_depends_on_a_function_of_a_site():
    def normal():
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(loc, 1.0), obs=torch.tensor(0.0))

    elbo = pre.TraceEstimator_ELBO()
    (costs,) = elbo.evaluate(normal, AutoDiagonalNormal(normal), (), {})
    assert DependentCosts.of(costs).words("_AutoDiagonalNormal_latent").endswith("q(loc) p(loc) p(x)")
