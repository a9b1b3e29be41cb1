"""Estimators of the field in their shortest form: each kind of branch does what it says.

Weights of each element, derivatives at ordinary and at other values, products with the Hessian, sites
downstream at their means, and dependent values that follow the law of the site.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import (
    coordinates,
    num_coordinate_dims,
    sum_rightmost,
)
from pyro_reparam_ext.estimators.base import Estimator
from pyro_reparam_ext.estimators.protocol import Branch, Draw
from pyro_reparam_ext.study.draws import Draws
from pyro_reparam_ext.study.elbo_call import ElboCall
from pyro_reparam_ext.study.sampler import Sampler

from ..compiled.steps import assert_same_steps
from ..sampling import gradients
from ..statistics import assert_mean

DOUBLE = torch.float64


def dot(site, a, b):
    """The sum of products over the coordinates of each batch element."""
    return sum_rightmost(a * b, num_coordinate_dims(site.fn))


# -- estimators ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stratified(Estimator):
    """A value of each component of a mixture, weighed by its probability."""

    unbiased = True
    supported = (torch.distributions.MixtureSameFamily,)
    differentiable = True

    def evaluations(self, fn):
        return 1 + coordinates(fn)._num_component

    def alternatives(self, site):
        probs = site.base.mixture_distribution.probs.movedim(-1, 0)
        values = site.base.component_distribution.rsample().movedim(-1, 0)
        return (Branch.of(values, weights=probs),)

    def surrogate(self, evaluations):
        return (evaluations.branches[0].weights * evaluations.costs[1:]).sum(0)


@dataclass(frozen=True, eq=False)
class Taylor(pre.Pathwise):
    """Minus the linear part, at the mean, of the gradient (Miller et al., arXiv 1705.07880)."""

    supported = (torch.distributions.Normal,)

    def evaluations(self, fn):
        return 2

    def alternatives(self, site):
        return (Branch.of(site.base.loc[None], order=2),)

    def surrogate(self, evaluations):
        site = evaluations.site
        moved = (site.value - site.base.loc).detach()[None]
        (product,) = evaluations.hessian_product(moved)
        # But for log q, whose curvature the parameters move along.
        product = product + moved[0] / site.base.scale.detach() ** 2
        return -dot(site, product, site.base.loc)


@dataclass(frozen=True, eq=False)
class Curvature(Estimator):
    """The Hessian of the costs at the mean, the value itself, times ones: the gradient in ``loc``."""

    unbiased = False
    paper = pre.MuProp.paper
    supported = (torch.distributions.Normal,)

    def draw(self, fn, source):
        return Draw(fn.mean.detach().clone().requires_grad_())

    def evaluations(self, fn):
        return 1

    def alternatives(self, site):
        return (Branch.at_ordinary(site.value, order=2),)

    def surrogate(self, evaluations):
        site = evaluations.site
        return dot(site, evaluations.hessian_product(torch.ones_like(site.value)), site.base.loc)


# -- programs -----------------------------------------------------------------------------------------

Y = torch.tensor([0.9, -0.4, 0.3], dtype=DOUBLE)
START = {
    "logits": torch.tensor([[0.5, -0.8], [0.1, 0.9], [-0.6, 0.2]], dtype=DOUBLE),
    "table": torch.tensor([[0.4, -0.3, 0.8], [0.0, 0.5, -0.9], [0.7, 0.1, 0.2]], dtype=DOUBLE),
    "shift": torch.tensor([0.3, -0.5], dtype=DOUBLE),
    "weight": torch.tensor([1.1, -0.7], dtype=DOUBLE),
}


def param(name):
    return pyro.param(name, START[name].clone())


class Binary:
    """Vectors in a plate, and a second layer of them."""

    names = ("logits", "shift", "weight")

    def guide(self):
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(logits=param("logits")).to_event(1))
            inner = param("shift") + (z.sum(-1, keepdim=True) - 1)
            pyro.sample("w", dist.Bernoulli(logits=inner).to_event(1))

    def model(self):
        half = torch.full((2,), 0.4, dtype=DOUBLE)
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(half).to_event(1))
            w = pyro.sample("w", dist.Bernoulli(half).to_event(1))
            loc = ((z + 0.5 * w) * param("weight")).sum(-1)
            pyro.sample("y", dist.Normal(loc.sin() + z.prod(-1), 0.6), obs=Y)


class Categories:
    """A category in a plate."""

    names = ("table", "weight")

    def guide(self):
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Categorical(logits=param("table")))

    def model(self):
        values = torch.tensor([0.2, -1.0, 1.3], dtype=DOUBLE)
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Categorical(torch.ones(3, dtype=DOUBLE) / 3))
            pyro.sample("y", dist.Normal(values[z] * param("weight").sum(), 0.6), obs=Y)


def learned(elbo):
    """Gives control variates a share that isn't 0."""
    for state in elbo.states.values():
        for name, parameter in state.named_parameters():
            if name in ("alpha", "beta"):
                parameter.data.fill_(-0.7)


def draws(estimator, program, mode, num_draws):
    elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode, max_plate_nesting=1)
    sampler = Sampler(ElboCall(elbo, program.model, program.guide, (), {}))
    learned(elbo)
    chunks = list(Draws(sampler, list(program.names)).chunks(num_draws))
    rows = [torch.cat([c[name].reshape(len(c[name]), -1) for c in chunks]) for name in program.names]
    return torch.cat(rows, 1)


def exact(program):
    return draws(pre.Enumeration(), program, True, 1)[0]


BINARY = [pre.ARMS(num_samples=3), pre.MuProp(), pre.DoubleCV(), pre.RODEO(3)]


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("estimator", BINARY, ids=repr)
def test_binary(estimator, mode):
    assert_mean(draws(estimator, Binary(), mode, 4000), exact(Binary()))


@pytest.mark.parametrize("estimator", BINARY, ids=repr)
def test_binary_in_a_loop(estimator):
    assert_mean(draws(estimator, Binary(), False, 60), exact(Binary()))


@pytest.mark.parametrize("estimator", BINARY, ids=repr)
def test_binary_beside_others(estimator):
    estimators = {"z": estimator, "w": pre.DisARM()}
    assert_mean(draws(estimators, Binary(), True, 4000), exact(Binary()))
    if isinstance(estimator, pre.MuProp):  # one more kind of values downstream
        estimators = {"z": pre.REBAR(), "w": estimator}
        assert_mean(draws(estimators, Binary(), True, 4000), exact(Binary()))


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_weights_of_each_element(mode):
    assert_mean(draws(pre.UnorderedSet(), Categories(), mode, 4000), exact(Categories()))


def test_weights_of_elements_that_a_cost_is_not_in():
    class Outside(Categories):
        def model(self):
            with pyro.plate("data", 3):
                z = pyro.sample("z", dist.Categorical(torch.ones(3, dtype=DOUBLE) / 3))
            total = z.to(DOUBLE).sum(-1) * param("weight").sum()
            pyro.sample("total", dist.Normal(total, 1.0), obs=Y[0])

    elbo = pre.TraceEstimator_ELBO(pre.UnorderedSet(), vectorize_particles="vmap", max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match="'total' depends on it from outside that plate"):
        elbo.loss_and_grads(Outside().model, Outside().guide)


class Continuous:
    """A function of a normal or mixed variable in a plate; its ELBO by quadrature."""

    def __init__(self, names, law, mean):
        self.names, self.law, self.mean = names, law, mean

    def guide(self):
        with pyro.plate("data", 3):
            pyro.sample("z", self.law({name: param(name) for name in self.names}))

    def model(self):
        weight = param("weight")
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Normal(torch.zeros((), dtype=DOUBLE), 1.5))
            pyro.sample("y", dist.Normal(self.mean(weight, z), 0.8), obs=Y)

    def exact(self):
        leaves = {name: START[name].clone().requires_grad_() for name in self.names}
        law, weight = self.law(leaves), leaves["weight"]
        grid = torch.linspace(-9, 9, 4001, dtype=DOUBLE)[:, None]
        cost = law.log_prob(grid) - dist.Normal(0.0, 1.5).log_prob(grid)
        cost = cost - dist.Normal(self.mean(weight, grid), 0.8).log_prob(Y)
        loss = torch.trapezoid(law.log_prob(grid).exp() * cost, grid, dim=0).sum()
        found = torch.autograd.grad(loss, list(leaves.values()))
        return torch.cat([x.flatten() for x in found])


def normal(p):
    return dist.Normal(p["logits"][:, 0], 0.5 + p["logits"][:, 1].sigmoid())


def mixture(p):
    components = dist.Normal(p["table"], torch.tensor([0.4, 0.8, 0.6], dtype=DOUBLE))
    return dist.MixtureSameFamily(dist.Categorical(logits=p["table"].flip(0)), components)


def curved(weight, z):
    return (weight[0] * z).sin() + weight[1] * z


def straight(weight, z):
    return weight[1] * z + weight[0]


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_products_with_the_hessian(mode):
    program = Continuous(("logits", "weight"), normal, curved)
    assert_mean(draws(Taylor(), program, mode, 4000), program.exact())


def test_products_with_the_hessian_of_quadratic_costs():
    program = Continuous(("logits", "weight"), normal, straight)
    means = slice(0, 6, 2)  # whose gradient is linear in the noise
    found = draws(Taylor(), program, True, 50)[:, means]
    torch.testing.assert_close(found, program.exact()[means].expand(50, -1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("num_particles", [1, 2])
@pytest.mark.parametrize("inside", [True, False])
def test_products_with_the_hessian_at_the_ordinary_value(inside, num_particles, mode):
    """Also where the program has more dims than the site: outside of its plate, and in one of two."""
    x = torch.tensor([0.7, -1.2, 0.4], dtype=DOUBLE)
    start = START["logits"] if inside else START["shift"]

    def site(loc, scale):
        return pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def mean_of(z):
        return z[..., 0] * z[..., 1] * x + z[..., 0].sin()

    def guide():
        loc = pyro.param("loc", start.clone())
        with pyro.plate("data", 3) if inside else nullcontext():
            site(loc, 2.0)

    def model():
        zeros = torch.zeros(2, dtype=DOUBLE)
        z = None if inside else site(zeros, 1.0)
        with pyro.plate("data", 3):
            z = site(zeros, 1.0) if inside else z
            pyro.sample("y", dist.Normal(mean_of(z), 1.0), obs=Y)

    def cost(z):
        """Without what is constant, and ``log q``."""
        return ((Y - mean_of(z)).square().sum() + z.square().sum()) / 2

    elbo = pre.TraceEstimator_ELBO(
        Curvature(), num_particles=num_particles, vectorize_particles=mode, max_plate_nesting=2
    )
    found = gradients(elbo, model, guide, ["loc"], 1)[0, 1:]
    ones = torch.ones_like(start)
    product = torch.autograd.functional.hvp(cost, start, ones)[1] - ones / 2.0**2
    torch.testing.assert_close(found, product.flatten())


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_strata(mode):
    program = Continuous(("table", "weight"), mixture, curved)
    assert_mean(draws(Stratified(), program, mode, 4000), program.exact())


@pytest.mark.parametrize(
    ("estimator", "mode"), list(zip(BINARY, [False, "vmap", True, True], strict=True))
)
def test_binary_captured(estimator, mode):
    def programs():
        program = Binary()
        elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode, max_plate_nesting=1)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


@pytest.mark.parametrize(
    ("estimator", "program"),
    [
        (pre.UnorderedSet(), Categories()),
        (Taylor(), Continuous(("logits", "weight"), normal, curved)),
        (Stratified(), Continuous(("table", "weight"), mixture, curved)),
    ],
    ids=["UnorderedSet", "Taylor", "Stratified"],
)
def test_others_captured(estimator, program):
    def programs():
        elbo = pre.TraceEstimator_ELBO(estimator, max_plate_nesting=1)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-9)
