"""The Taylor control variate: quadratic costs have no noise, others less, and none has a bias."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.fitted import FittedCoefficients

from ..compiled.steps import assert_same_steps
from ..sampling import gradients
from ..statistics import assert_mean

DOUBLE = torch.float64
LEVELS = torch.tensor([0, 1, 2, 0, 1])
Y = torch.tensor([1.0, 3.0, 0.5, 2.0, 2.5], dtype=DOUBLE)
X = torch.tensor([[0.5, -1.0], [1.0, 0.3], [-0.4, 0.8], [0.2, 0.2], [1.2, -0.5]], dtype=DOUBLE)
ZERO, ONE = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)


def rate():
    """A slope, an effect for each level, and a mean, in three sites and two plates."""
    slopes = pyro.sample("slopes", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
    mean = pyro.sample("mean", dist.Normal(ZERO, 2.0))
    with pyro.plate("levels", 3):
        effect = pyro.sample("effect", dist.Normal(ZERO, ONE))
    return mean + effect[..., LEVELS] + (slopes * X).sum(-1)


def quadratic():
    loc = rate()
    with pyro.plate("data", 5):
        pyro.sample("y", dist.Normal(loc, 0.7), obs=Y)


def exponential():
    loc = rate()
    with pyro.plate("data", 5):
        pyro.sample("y", dist.Poisson((loc / 2).exp()), obs=Y.round())


def guide_of(model, kind=AutoNormal):
    pyro.set_rng_seed(0)
    guide = kind(model, init_scale=0.3)
    guide()
    return guide.double()


def learned(estimator, model, guide, steps=30, **options):
    """An ELBO whose coefficients have been fitted at the parameters as they are."""
    elbo = pre.TraceEstimator_ELBO(estimator, max_plate_nesting=2, **options)
    for _ in range(steps):
        elbo.loss_and_grads(model, guide)
    return elbo


def variance(elbo, model, guide, calls=40):
    """Of the gradient in all parameters."""
    rows = gradients(elbo, model, guide, list(pyro.get_param_store()), calls)[:, 1:]
    return rows.var(0).sum().item()


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("kind", [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal])
def test_quadratic_costs_have_no_noise(kind, mode):
    guide = guide_of(quadratic, kind)
    options = {"num_particles": 3, "vectorize_particles": mode}
    taylor = learned(
        pre.TaylorControlVariate(num_probes=6, per_particle=True), quadratic, guide, **options
    )
    plain = learned(pre.Pathwise(), quadratic, guide, 1, **options)
    assert variance(taylor, quadratic, guide) < 1e-6 * variance(plain, quadratic, guide)


def test_means_alone_need_no_probes():
    guide = guide_of(quadratic, AutoMultivariateNormal)
    elbo = learned(pre.TaylorControlVariate(), quadratic, guide, num_particles=3)
    name = next(name for name in pyro.get_param_store() if name.endswith("loc"))
    assert gradients(elbo, quadratic, guide, [name], 20)[:, 1:].var(0).sum() < 1e-6


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_before_anything_is_learned_it_lands(mode):
    guide, found = guide_of(exponential), []
    for estimator in (pre.StickingTheLanding(), pre.TaylorControlVariate()):
        elbo = pre.TraceEstimator_ELBO(estimator, max_plate_nesting=2, vectorize_particles=mode)
        elbo.loss(exponential, guide)
        pyro.set_rng_seed(1)
        found.append(gradients(elbo, exponential, guide, list(pyro.get_param_store()), 1)[0, 1:])
    torch.testing.assert_close(found[0], found[1])


class Curve:
    """A scalar site whose cost is ``exp(z)`` and its own log density."""

    def __init__(self):
        self.loc, self.scale = torch.tensor(0.4, dtype=DOUBLE), torch.tensor(0.6, dtype=DOUBLE)

    def guide(self):
        scale = pyro.param("scale", self.scale)
        return pyro.sample("z", dist.Normal(pyro.param("loc", self.loc), scale))

    def model(self):
        z = pyro.sample("z", dist.Normal(ZERO, 1.0).mask(False))
        pyro.factor("cost", -z.exp())


def test_closed_form():
    program, estimator = Curve(), pre.TaylorControlVariate()
    elbo = pre.TraceEstimator_ELBO(estimator)
    elbo.loss_and_grads(program.model, program.guide)
    (state,) = elbo.states.values()
    in_loc, in_scale = torch.tensor([0.7, -0.2]).double(), torch.tensor([0.3, 0.5, -0.1, 0.4]).double()
    for fitted, wanted in ((state.of_loc, in_loc), (state.of_factor, in_scale)):
        fitted.products.copy_(torch.eye(len(wanted)) * (1 - 1e-4))
        fitted.with_target.copy_(wanted * (1 - 1e-4) * (1 + 1e-4))
        wanted.copy_(fitted())
    pyro.set_rng_seed(3)
    found = gradients(elbo, program.model, program.guide, ["loc", "scale"], 1)[0, 1:]
    pyro.set_rng_seed(3)
    e = torch.randn((), dtype=DOUBLE)
    loc, scale = program.loc, program.scale
    z, at_mean = loc + scale * e, loc.exp()
    slope, own = z.exp() - e / scale, e / scale
    curvature = at_mean - 1 / scale**2
    loc_slope = slope - in_loc[0] * curvature * scale * e - in_loc[1] * own
    variates = torch.stack(
        [at_mean * e, *[curvature * scale * (e * e - 1)] * 2, (e * e - 1) / scale],
    )
    expected = torch.stack([loc_slope, slope * e - in_scale @ variates])
    torch.testing.assert_close(found, expected)


def test_it_never_does_harm():
    """At a coefficient of 1 the expansion at the mean is worse than none: a cost that is flat there."""

    def model():
        z = pyro.sample("z", dist.Normal(ZERO, 1.0))
        pyro.factor("cost", -4 * (3 * z).sin() - z)

    def guide():
        scale = pyro.param("scale", ONE.clone(), dist.constraints.positive)
        pyro.sample("z", dist.Normal(pyro.param("loc", ZERO + 0.5), scale))

    options = {"num_particles": 8}
    taylor = learned(pre.TaylorControlVariate(), model, guide, 200, **options)
    landing = learned(pre.StickingTheLanding(), model, guide, 1, **options)
    assert variance(taylor, model, guide, 400) < 1.1 * variance(landing, model, guide, 400)
    (state,) = taylor.states.values()
    assert state.of_loc()[0].abs() < 0.5


def hierarchy():
    """A guide whose second site depends on the first, by a graph and by the value alone."""
    top = pyro.sample("top", dist.Normal(pyro.param("top_loc", ZERO + 0.3), 0.8 * ONE))
    weight, scale = (
        pyro.param("weight", ONE.clone()),
        pyro.param("scale", ONE / 2, dist.constraints.positive),
    )
    with pyro.plate("levels", 3):
        pyro.sample("low", dist.Normal(mean_of(top.detach(), weight), scale))
    pyro.sample("aside", dist.Normal(pyro.param("aside_loc", ZERO - 0.2), 0.5 * ONE))


def mean_of(top, weight):
    return weight * top.sin() + 0.2 * top


def hierarchy_model():
    top = pyro.sample("top", dist.Normal(ZERO, 1.0))
    aside = pyro.sample("aside", dist.Normal(ZERO, 1.0))
    with pyro.plate("levels", 3):
        low = pyro.sample("low", dist.Normal(top, 1.0))
        pyro.sample("y", dist.Poisson((low / 2 + aside * top / 2).exp()), obs=Y[:3].round())


def exact_hierarchy():
    """The gradient in the unconstrained parameters: over ``top`` by quadrature, else in closed form."""
    nodes, weights = (torch.tensor(x) for x in np.polynomial.hermite_e.hermegauss(60))
    top = 0.3 + 0.8 * nodes
    weight, log_scale, aside = (x.clone().requires_grad_() for x in (ONE, (ONE / 2).log(), ZERO - 0.2))
    scale, mean = log_scale.exp(), mean_of(top, weight)
    prior = ((mean - top) ** 2 + scale**2) / 2 - log_scale
    counts = Y[:3].round().mean() * (mean / 2 + aside * top / 2)
    rate = (mean / 2 + scale**2 / 8 + aside * top / 2 + (0.5 * top / 2) ** 2 / 2).exp()
    loss = 3 * (weights * (prior - counts + rate)).sum() / weights.sum() + aside**2 / 2
    return torch.stack(torch.autograd.grad(loss, (weight, log_scale, aside)))


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_hierarchical_guide(mode):
    names, options = ["weight", "scale", "aside_loc"], {"num_particles": 2, "vectorize_particles": mode}
    elbo = learned(pre.TaylorControlVariate(), hierarchy_model, hierarchy, 100, **options)
    rows = gradients(elbo, hierarchy_model, hierarchy, names, 400 if mode else 200)[:, 1:]
    assert_mean(rows, exact_hierarchy())


@pytest.mark.parametrize("mode", [True, False])
def test_beside_other_estimators(mode):
    def model():
        z = pyro.sample("z", dist.Normal(ZERO, 1.0))
        g = pyro.sample("g", dist.Gamma(2 * ONE, 2.0))
        b = pyro.sample("b", dist.Bernoulli(0.4 * ONE))
        pyro.sample("y", dist.Normal(z * g + b, 1.0), obs=Y[0])

    def guide():
        g = pyro.sample("g", dist.Gamma(pyro.param("a", 2.5 * ONE), ONE))
        z = pyro.sample("z", dist.Normal(pyro.param("loc", ZERO + 0.4) * g.log(), 0.6 * ONE))
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("logit", ZERO.clone()) + 0.5 * z - 0.2 * g))

    found = []
    for estimators in ({"z": pre.TaylorControlVariate()}, {}):
        elbo = pre.TraceEstimator_ELBO({"b": pre.Enumeration(), **estimators}, vectorize_particles=mode)
        for _ in range(50):
            elbo.loss_and_grads(model, guide)
        found.append(gradients(elbo, model, guide, ["loc", "a", "logit"], 500)[:, 1:])
    assert_mean(found[0] - found[1], torch.zeros(3))


@pytest.mark.parametrize("per_particle", [False, True])
@pytest.mark.parametrize("particles", ["independent", "sobol"])
def test_several_particles(particles, per_particle):
    guide = guide_of(exponential)
    names, options = list(pyro.get_param_store()), {"num_particles": 4, "particles": particles}
    estimator = pre.TaylorControlVariate(per_particle=per_particle)
    elbo = learned(estimator, exponential, guide, 100, **options)
    rows = gradients(elbo, exponential, guide, names, 400)[:, 1:]
    plain = learned(pre.Pathwise(), exponential, guide, 1, **options)
    expected = gradients(plain, exponential, guide, names, 400)[:, 1:]
    assert_mean(rows - expected, torch.zeros(rows.shape[1]))
    assert rows.var(0).sum() < 0.2 * expected.var(0).sum()


@pytest.mark.parametrize("per_particle", [False, True])
def test_one_expansion_serves_all_particles(per_particle):
    guide, shapes = guide_of(exponential), set()

    def model():
        loc = rate()
        shapes.add(tuple(loc.shape))
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Poisson((loc / 2).exp()), obs=Y.round())

    estimator = pre.TaylorControlVariate(per_particle=per_particle)
    elbo = learned(estimator, model, guide, 6, num_particles=4)
    shapes.clear()
    elbo.loss_and_grads(model, guide)
    assert shapes == {(4, 1, 5), (1, 4 if per_particle else 1, 1, 5)}


@pytest.mark.parametrize("coin_first", [True, False])
@pytest.mark.parametrize("estimator", [pre.DisARM(), pre.ARMS()], ids=repr)
def test_beside_alternatives_that_are_averaged(estimator, coin_first):
    """A coin, z and w, both moved by it; w moves with z too and has another estimator."""
    initial = {"logit": 0.3, "loc": 0.4, "of_z": 0.7, "s": 0.6, "slope": 0.8, "of_w": -0.5}
    start = {name: torch.tensor(x, dtype=DOUBLE) for name, x in initial.items()}

    def model():
        z = pyro.sample("z", dist.Normal(ZERO, 1.0))
        b = pyro.sample("b", dist.Bernoulli(0.5 * ONE))
        w = pyro.sample("w", dist.Normal(z, 1.0))
        pyro.sample("y", dist.Normal(w + b, 1.0), obs=Y[0])

    def guide():
        p = {name: pyro.param(name, x.clone()) for name, x in start.items()}
        coin = dist.Bernoulli(logits=p["logit"])
        b = pyro.sample("b", coin) if coin_first else 0.0
        z = pyro.sample("z", dist.Normal(p["loc"] + p["of_z"] * b, p["s"]))
        if not coin_first:
            b = pyro.sample("b", coin)
        pyro.sample("w", dist.Normal(p["slope"] * z + p["of_w"] * b, 0.9))

    def loss(logit, loc, of_z, s, slope, of_w):
        b, q = torch.tensor([0.0, 1.0], dtype=DOUBLE), torch.stack([-logit, logit]).sigmoid()
        z = loc + of_z * b * coin_first
        w = slope * z + of_w * b
        apart = (w - z) ** 2 + (slope - 1) ** 2 * s**2
        given = (z**2 + s**2 + apart + (Y[0] - w - b) ** 2 + slope**2 * s**2) / 2 - s.log()
        return (q * (q.log() + given)).sum()

    exact = torch.func.grad(loss, argnums=tuple(range(6)))(*start.values())
    sites = {"b": estimator, "z": pre.TaylorControlVariate()}
    elbo = pre.TraceEstimator_ELBO(sites, num_particles=64, max_plate_nesting=0)
    rows = gradients(elbo, model, guide, list(start), 100)[:, 1:]
    assert_mean(rows, torch.stack(exact))


def runs_of(model, guide, mode):
    """How often a gradient runs the guide and the model."""
    count = {"guide": 0, "model": 0}

    def counted(function, name):
        def run():
            count[name] += 1
            return function()

        return run

    elbo = pre.TraceEstimator_ELBO(
        pre.TaylorControlVariate(), max_plate_nesting=2, vectorize_particles=mode
    )
    programs = counted(model, "model"), counted(guide, "guide")
    for _ in range(6):
        elbo.loss_and_grads(*programs)
    before = dict(count)
    elbo.loss_and_grads(*programs)
    return {name: count[name] - before[name] for name in count}


def test_sites_that_do_not_depend_on_each_other_share_an_evaluation():
    guide = guide_of(exponential)
    assert runs_of(exponential, guide, True)["model"] == 2
    assert runs_of(exponential, guide, False)["model"] == 1 + 3
    # The expansion at the first site takes the last one along, the second one has its own.
    assert runs_of(hierarchy_model, hierarchy, True)["model"] == 1 + 2


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
def test_captured(kind):
    def programs():
        guide = guide_of(exponential, kind)
        elbo = pre.TraceEstimator_ELBO(pre.TaylorControlVariate(), num_particles=2, max_plate_nesting=2)
        return exponential, guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


def test_other_distributions_are_named():
    def guide():
        pyro.sample("z", dist.Gamma(pyro.param("a", ONE.clone()), 1.0))

    elbo = pre.TraceEstimator_ELBO({"z": pre.TaylorControlVariate()})
    with pytest.raises(pre.EstimatorError, match="'z'.*TaylorControlVariate.*Gamma"):
        elbo.loss(guide, guide)


def test_a_sampler_that_can_be_differentiated_once_is_named():
    def guide():
        z = pyro.sample("z", dist.Normal(pyro.param("loc", ZERO.clone()), 1.0))
        pyro.sample("g", dist.Gamma(z.exp(), 1.0))

    elbo = pre.TraceEstimator_ELBO({"z": pre.TaylorControlVariate()})
    with pytest.raises(pre.EstimatorError, match="'z': TaylorControlVariate.*'g' downstream.*twice"):
        elbo.loss_and_grads(guide, guide)


def test_coefficients_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    variates = torch.randn(3, 5000, generator=generator, dtype=DOUBLE)
    variates[1] += variates[0]
    wanted = torch.tensor([1.5, -0.4, 0.0], dtype=DOUBLE)
    fitted = FittedCoefficients(3, variates)
    assert fitted().abs().sum() == 0
    fitted.note(variates, wanted @ variates)
    torch.testing.assert_close(fitted(), wanted, atol=1e-3, rtol=0)
    fitted.note(0 * variates, wanted @ variates)
    assert fitted().isfinite().all()


def test_a_compiled_step_draws_in_the_order_of_an_eager_one():
    """Of two kinds of random numbers, points of a sequence and signs, the compiler moved one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=generator)
    y = torch.randint(0, 2, (200,), generator=generator).float()

    def model():
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(16), 1.0).to_event(1))
        with pyro.plate("data", 200):
            pyro.sample("y", dist.Bernoulli(logits=(slopes * x).sum(-1)), obs=y)

    def programs():
        guide = AutoNormal(model, init_scale=0.1)
        elbo = pre.TraceEstimator_ELBO(
            pre.TaylorControlVariate(), num_particles=16, particles="sobol", max_plate_nesting=2
        )
        return model, guide, elbo

    assert_same_steps(programs, tolerance=1e-3, kind=pre.CompiledSVI)
