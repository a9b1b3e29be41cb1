"""Estimators of the field in their shortest form: each kind of branch does what it says.

Weights of each element, derivatives at ordinary and at other values, products with the Hessian, sites
downstream at their means, and dependent values that follow the law of the site.
"""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.relaxation import RELAXABLE, probabilities
from pyro_reparam_ext.distributions.rules.wrappers import (
    coordinates,
    num_coordinate_dims,
    sum_rightmost,
)
from pyro_reparam_ext.estimators.base import Estimator
from pyro_reparam_ext.estimators.protocol import Branch, Downstream, Draw
from pyro_reparam_ext.study.draws import Draws
from pyro_reparam_ext.study.elbo_call import ElboCall
from pyro_reparam_ext.study.sampler import Sampler

from ..compiled.steps import assert_same_steps
from ..statistics import assert_mean

DOUBLE = torch.float64


def with_gradient(x, like):
    """``x``, in which costs can be differentiated; nothing reaches ``like``."""
    return x + (like - like)


def dot(site, a, b):
    """The sum of products over the coordinates of each batch element."""
    return sum_rightmost(a * b, num_coordinate_dims(site.fn))


# -- estimators ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ARMS(Estimator):
    """Bernoulli values coupled by a Dirichlet copula (Dimitriev, Zhou, arXiv 2105.14141)."""

    num_samples: int = 4
    unbiased = True
    supported = (torch.distributions.Bernoulli,)

    def draw(self, fn, source):
        probs = coordinates(fn).probs.detach()
        u = source.uniform(probs.shape, probs)
        return Draw((u < probs).to(probs.dtype), noise=u)

    def evaluations(self, fn):
        return self.num_samples

    def alternatives(self, site):
        probs, n = site.base.probs.detach(), self.num_samples
        first = 1 - (1 - site.noise) ** (1 / (n - 1))  # of a Dirichlet vector
        rest = -torch.rand((n - 1, *probs.shape), dtype=probs.dtype).log()
        rest = (1 - first) * rest / rest.sum(0)
        values = (1 - (1 - rest) ** (n - 1) < probs).to(probs.dtype)
        return (Branch.of(values, weights=1 / n),)

    def surrogate(self, evaluations):
        site, costs, n = evaluations.site, evaluations.costs, self.num_samples
        probs = site.base.probs.detach()
        both = 2 * probs - 1 + (2 * (1 - probs) ** (1 / (n - 1)) - 1).clamp(min=0) ** (n - 1)
        correlation = (both - probs**2) / (probs * (1 - probs))
        values = torch.cat([site.value[None], evaluations.branches[0].values(0, n - 1)])
        score = (values - probs) / (1 - correlation) * site.base.logits
        centred = costs - costs.mean(0)
        return (centred * sum_rightmost(score, num_coordinate_dims(site.fn))).sum(0) / (n - 1)


class AtMeans(Downstream):
    """Discrete sites at their means."""

    def __call__(self, site, fn):
        base = coordinates(fn)
        if isinstance(base, RELAXABLE):
            return Draw(probabilities(base))
        return site.estimator.redraw(site, fn)


@dataclass(frozen=True, eq=False)
class MuProp(Estimator):
    """A linear control variate at the mean field (Gu et al., arXiv 1511.05176)."""

    unbiased = True
    supported = RELAXABLE

    def evaluations(self, fn):
        return 2

    def alternatives(self, site):
        return (Branch.of(probabilities(site.base)[None], order=1, downstream=AtMeans()),)

    def surrogate(self, evaluations):
        site, (slope,) = evaluations.site, evaluations.gradient().detach()
        mean = probabilities(site.base)
        linear = evaluations.costs[1] + dot(site, slope, site.value - mean.detach())
        return (evaluations.cost - linear) * site.log_prob + dot(site, slope, mean)


@dataclass(frozen=True, eq=False)
class DoubleControlVariate(Estimator):
    """Two hard values, each with the linear part of the other's costs (cf. arXiv 2111.05300)."""

    scale: float = 0.7
    unbiased = True
    supported = (torch.distributions.Bernoulli,)

    def draw(self, fn, source):
        draw, base = super().draw(fn, source), coordinates(fn)
        return draw.map(lambda x: with_gradient(x, base.probs))

    def evaluations(self, fn):
        return 2

    def alternatives(self, site):
        second = torch.rand_like(site.base.probs) < site.base.probs
        second = with_gradient(second.to(site.value.dtype), site.base.probs)[None]
        ordinary = Branch.at_ordinary(site.value, order=1)
        return ordinary, Branch.of(second, weights=0.5, order=1)

    def surrogate(self, evaluations):
        site, costs = evaluations.site, evaluations.costs
        values = site.value.detach(), evaluations.branches[1].tensor[0].detach()
        slopes = evaluations.gradient(0).detach(), evaluations.gradient(1)[0].detach()
        mean, total = probabilities(site.base), 0.0
        for own, other in ((0, 1), (1, 0)):
            slope = self.scale * slopes[other]
            linear = costs[other] + dot(site, slope, values[own] - values[other])
            total = total + (costs[own] - linear) * site.fn.log_prob(values[own])
            total = total + dot(site, slope, mean)
        return total / 2


@dataclass(frozen=True, eq=False)
class UnorderedSet(Estimator):
    """Two categories without replacement (Kool, van Hoof, Welling, arXiv 2002.06043)."""

    unbiased = True
    supported = (torch.distributions.Categorical,)
    coordinatewise = True

    def evaluations(self, fn):
        return 2

    def alternatives(self, site):
        logits, first = site.base.logits.detach(), site.value[..., None]
        left = logits.scatter(-1, first, -torch.inf)
        noise = -(-torch.rand_like(logits).log()).log()
        second = (left + noise).argmax(-1)
        own, other = (logits.gather(-1, x).squeeze(-1).exp() for x in (first, second[..., None]))
        either = own * other / (1 - own) + own * other / (1 - other)
        return (Branch.of(second[None], weights=(other * own / (1 - other) / either)[None]),)

    def surrogate(self, evaluations):
        site, (branch,) = evaluations.site, evaluations.branches
        shares = torch.cat([1 - branch.weights, branch.weights])
        values = torch.cat([site.value[None], branch.values(0, 1)])
        # the gradient of p(s) R(S, s), with R held
        scores = torch.stack([site.fn.log_prob(value) for value in values])
        return (shares * scores * evaluations.costs).sum(0)


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


def draws(estimator, program, mode, num_draws):
    elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode, max_plate_nesting=1)
    sampler = Sampler(ElboCall(elbo, program.model, program.guide, (), {}))
    chunks = list(Draws(sampler, list(program.names)).chunks(num_draws))
    rows = [torch.cat([c[name].reshape(len(c[name]), -1) for c in chunks]) for name in program.names]
    return torch.cat(rows, 1)


def exact(program):
    return draws(pre.Enumeration(), program, True, 1)[0]


BINARY = [ARMS(), ARMS(num_samples=3), MuProp(), DoubleControlVariate()]


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
    if isinstance(estimator, MuProp):  # one more kind of values downstream
        estimators = {"z": pre.REBAR(), "w": estimator}
        assert_mean(draws(estimators, Binary(), True, 4000), exact(Binary()))


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_weights_of_each_element(mode):
    assert_mean(draws(UnorderedSet(), Categories(), mode, 4000), exact(Categories()))


def test_weights_of_elements_that_a_cost_is_not_in():
    class Outside(Categories):
        def model(self):
            with pyro.plate("data", 3):
                z = pyro.sample("z", dist.Categorical(torch.ones(3, dtype=DOUBLE) / 3))
            total = z.to(DOUBLE).sum(-1) * param("weight").sum()
            pyro.sample("total", dist.Normal(total, 1.0), obs=Y[0])

    elbo = pre.TraceEstimator_ELBO(UnorderedSet(), vectorize_particles="vmap", max_plate_nesting=1)
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


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_strata(mode):
    program = Continuous(("table", "weight"), mixture, curved)
    assert_mean(draws(Stratified(), program, mode, 4000), program.exact())


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("estimator", BINARY, ids=repr)
def test_binary_captured(estimator, mode):
    def programs():
        program = Binary()
        elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode, max_plate_nesting=1)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


@pytest.mark.parametrize(
    ("estimator", "program"),
    [
        (UnorderedSet(), Categories()),
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
