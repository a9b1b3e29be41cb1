"""Gauss-Hermite quadrature: exact where it says so, its bias elsewhere, and what it can't serve."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre

from ..compiled.steps import assert_same_steps
from ..layouts import LAYOUTS
from ..registry import layout_of
from ..sampling import gradients, layout_gradients
from ..statistics import assert_mean

DOUBLE = torch.float64
MODES = [True, "vmap", False]
INSIDE = [name for name in LAYOUTS if LAYOUTS[name].inside]
FINE = 150
"""Nodes by which the bias in the layouts is below 1e-8."""


def double(*x):
    return torch.tensor(x, dtype=DOUBLE)


LOC, LOG_SCALE = double(0.4, -0.9, 0.1), double(-0.5, 0.1, -0.2)


def parameters():
    return pyro.param("loc", LOC.clone()), pyro.param("log_scale", LOG_SCALE.clone())


def rows(law, costs, calls=1, nodes=8, **options):
    """The gradient of ``E[costs(z)]`` in ``loc`` and ``log_scale``; the model's law is the guide's."""

    def guide():
        pyro.sample("z", law(*parameters()))

    def model():
        z = pyro.sample("z", law(*(x.detach() for x in parameters())))
        pyro.factor("costs", -costs(z))

    pyro.clear_param_store()
    parameters()
    elbo = pre.TraceEstimator_ELBO(pre.GaussHermite(nodes), **options)
    return gradients(elbo, model, guide, ["loc", "log_scale"], calls)[:, 1:]


def vector(loc, log_scale):
    return dist.Normal(loc, log_scale.exp()).to_event(1)


def log_vector(loc, log_scale):
    return dist.LogNormal(loc, log_scale.exp()).to_event(1)


def slopes(mean):
    """Of a mean in closed form."""
    leaves = [LOC.clone().requires_grad_(), LOG_SCALE.clone().requires_grad_()]
    return torch.cat(torch.autograd.grad(mean(leaves[0], leaves[1].exp()), leaves))


def quartic(loc, scale):
    """The mean of the sum of fourth powers."""
    return (loc**4 + 6 * loc**2 * scale**2 + 3 * scale**4).sum()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_particles", [1, 3])
def test_costs_of_single_coordinates_have_no_noise(num_particles, mode):
    options = {"num_particles": num_particles, "vectorize_particles": mode}
    found = rows(vector, lambda z: (z**4).sum(-1), calls=2, nodes=4, **options)
    torch.testing.assert_close(found, slopes(quartic).expand(2, -1))


def test_degrees_up_to_which_it_is_exact():
    """By three nodes up to the fourth in the mean, and the third in the scale; and no further."""
    cubic = slopes(lambda loc, scale: (loc**3 + 3 * loc * scale**2).sum())
    torch.testing.assert_close(rows(vector, lambda z: (z**3).sum(-1), nodes=3)[0], cubic)
    found = rows(vector, lambda z: (z**4).sum(-1), nodes=3)[0] - slopes(quartic)
    torch.testing.assert_close(found[:3], torch.zeros(3, dtype=DOUBLE))
    # -K! / (2K - 2)! scale^(2K - 2) times the fourth derivative, 4!
    torch.testing.assert_close(found[3:], -6 * (4 * LOG_SCALE).exp())


@pytest.mark.parametrize("nodes", [3, 4, 5])
def test_bias_to_leading_order(nodes):
    """Of exponential costs, whose derivatives all have the mean of the costs."""
    loc, scale = LOC, torch.full_like(LOC, 0.4)
    mean = (loc + scale**2 / 2).exp()
    found = {}
    for k in (nodes, 40):
        elbo = pre.TraceEstimator_ELBO(pre.GaussHermite(k))
        leaves = [loc.clone().requires_grad_(), scale.clone().requires_grad_()]

        def guide(leaves=leaves):
            pyro.sample("z", dist.Normal(*leaves).to_event(1))

        def model():
            z = pyro.sample("z", dist.Normal(loc, scale).to_event(1))
            pyro.factor("costs", -z.exp().sum(-1))

        found[k] = torch.stack(torch.autograd.grad(elbo.differentiable_loss(model, guide), leaves))
    torch.testing.assert_close(found[40], torch.stack([mean, scale * mean]))
    bias = found[nodes] - found[40]
    in_loc = math.factorial(nodes) / math.factorial(2 * nodes - 1) * scale ** (2 * nodes - 2)
    in_scale = math.factorial(nodes) / math.factorial(2 * nodes - 2) * scale ** (2 * nodes - 3)
    expected = -torch.stack([in_loc * mean, in_scale * mean])
    torch.testing.assert_close(bias, expected, rtol=0.05, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_products_have_the_noise_of_the_other_coordinates_alone(mode):
    """Given the others each slope is exact: that of ``z_1 z_2 z_3`` in a mean is their product."""
    torch.manual_seed(5)
    found = rows(vector, lambda z: z.prod(-1), vectorize_particles=mode, calls=1)[0]
    torch.manual_seed(5)
    z = vector(LOC, LOG_SCALE).sample()
    expected = torch.stack([z[1] * z[2], z[0] * z[2], z[0] * z[1]])
    torch.testing.assert_close(found, torch.cat([expected, torch.zeros(3, dtype=DOUBLE)]))


def test_log_normal():
    found = rows(log_vector, lambda z: (z**1.5).sum(-1), nodes=30)[0]
    exact = slopes(lambda loc, scale: (1.5 * loc + 1.5**2 * scale**2 / 2).exp().sum())
    torch.testing.assert_close(found, exact)


def test_a_jump_is_seen():
    def step(z):
        return (z > 0.3).to(DOUBLE).sum(-1)

    exact = slopes(lambda loc, scale: dist.Normal(loc, scale).cdf(double(0.3)).neg().sum())
    assert (rows(vector, step, nodes=200)[0] - exact).abs().max() < 0.05 < exact.abs().max()


@pytest.mark.parametrize("layout", INSIDE)
def test_mean_in_every_layout(layout):
    """Plates, sub-sampled ones, two layers of it, and pathwise sites above and below."""
    layout = layout_of(layout, "Normal")
    estimators = {site: pre.GaussHermite(FINE) for site in layout.sites}
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=25)
    assert_mean(layout_gradients(elbo, layout, 40), layout.exact_gradient())


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize(
    "other", [pre.LocalExpectation(), pre.DisARM(), pre.Pathwise(), pre.StickingTheLanding()], ids=repr
)
def test_mean_beside_other_estimators(other, mode):
    """A site above it, and one below, by each of the others that serves them."""
    discrete = not isinstance(other, pre.Pathwise)
    y = double(0.7, -0.4)

    def law(x):
        return dist.Bernoulli(logits=x) if discrete else dist.Normal(x, double(0.5))

    def guide():
        above, loc, below = pyro.param("theta", double(0.3, -0.6, 0.8))
        with pyro.plate("data", 2):
            a = pyro.sample("a", law(above))
            z = pyro.sample("z", dist.Normal(loc + a, (0.3 * a).exp()))
            pyro.sample("b", law(below * z))

    def model():
        with pyro.plate("data", 2):
            a = pyro.sample("a", law(double(0.0)[0]))
            z = pyro.sample("z", dist.Normal(a, double(1.0)))
            b = pyro.sample("b", law(double(0.2)[0]))
            pyro.sample("y", dist.Normal(z * b + z.sin() + a, 0.8), obs=y)

    def elbo_of(estimators, num_particles):
        return pre.TraceEstimator_ELBO(
            estimators, num_particles=num_particles, vectorize_particles=mode, max_plate_nesting=2
        )

    pyro.param("theta", double(0.3, -0.6, 0.8))
    found, plain = (
        gradients(elbo_of(estimators, particles), model, guide, ["theta"], 40)
        for estimators, particles in (
            ({"a": other, "z": pre.GaussHermite(16), "b": other}, 20),
            ({}, 200),
        )
    )
    assert_mean(found - plain, torch.zeros(4, dtype=DOUBLE))


def test_masked_and_scaled():
    """What is masked costs nothing, in the gradient either; a scale is a factor."""

    def program(masked, scale):
        def guide():
            loc, log_scale = parameters()
            with pyro.plate("data", 3), poutine.scale(scale=scale):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).mask(masked))

        def model():
            with pyro.plate("data", 3), poutine.scale(scale=scale):
                z = pyro.sample("z", dist.Normal(double(0.5), 2.0).mask(masked))
                pyro.sample("y", dist.Poisson(z.exp()).mask(masked), obs=double(1.0, 0.0, 3.0))

        pyro.clear_param_store()
        parameters()
        elbo = pre.TraceEstimator_ELBO(pre.GaussHermite(20))
        return gradients(elbo, model, guide, ["loc", "log_scale"], 1)[0, 1:].unflatten(0, (2, 3))

    whole = program(torch.ones(3, dtype=torch.bool), 1.0)
    assert (whole != 0).all()
    some = torch.tensor([True, False, True])
    torch.testing.assert_close(program(some, 2.5), 2.5 * whole * some)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_change_nothing(chunk):
    found = []
    for estimator in (pre.GaussHermite(5), pre.GaussHermite(5, max_evaluations=chunk)):
        layout = layout_of("hierarchy", "Normal")
        pyro.clear_param_store()
        torch.manual_seed(2)
        elbo = pre.TraceEstimator_ELBO({site: estimator for site in layout.sites})
        found.append(layout_gradients(elbo, layout, 1))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("mode", MODES)
def test_costs_from_outside_of_its_plate(mode):
    layout = layout_of("cost_outside", "Normal")
    elbo = pre.TraceEstimator_ELBO(pre.GaussHermite(), vectorize_particles=mode)
    with pytest.raises(pre.EstimatorError, match="depends on it from outside that plate"):
        layout_gradients(elbo, layout, 1)


@pytest.mark.parametrize(("mode", "num_particles"), [(True, 1), (True, 3), ("vmap", 3), (False, 1)])
def test_captured(mode, num_particles):
    def programs():
        layout = layout_of("hierarchy", "Normal")
        elbo = pre.TraceEstimator_ELBO(
            {"z1": pre.GaussHermite(5, max_evaluations=3), "z2": pre.GaussHermite(4)},
            num_particles=num_particles,
            vectorize_particles=mode,
            max_plate_nesting=1 + (num_particles > 1),
        )
        return layout.model, layout.guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: pre.GaussHermite(2), "num_nodes must be an integer of at least 3, was given 2"),
        (lambda: pre.GaussHermite(4.0), "num_nodes must be an integer"),
        (lambda: pre.GaussHermite(max_evaluations=0), "max_evaluations must be positive"),
    ],
)
def test_options(call, match):
    with pytest.raises(pre.EstimatorError, match=match):
        call()


@pytest.mark.parametrize(
    "fn",
    [
        dist.StudentT(3.0, 0.0, 1.0),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        dist.TransformedDistribution(
            dist.Normal(0.0, 1.0), dist.transforms.AffineTransform(torch.tensor(1.0), 2.0)
        ),
    ],
)
def test_unserved(fn):
    assert not pre.GaussHermite().supports(fn)


def test_evaluations():
    assert pre.GaussHermite(5).evaluations(dist.Normal(torch.zeros(4, 3), 1.0).to_event(1)) == 16
    assert pre.GaussHermite(5).evaluations(dist.LogNormal(torch.zeros(4, 3), 1.0)) == 6


def test_a_study_calls_it_biased():
    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 1.0))

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Poisson(z.exp()), obs=torch.tensor(3.0))

    estimators = {"three": pre.GaussHermite(3), "path": pre.Pathwise()}
    study = pre.gradient_study(model, guide, estimators=estimators, num_draws=200, progress=False)
    summary = study.summary()
    assert not summary.unbiased["three"] and summary.unbiased["path"]
    assert summary.variance["three"] < 1e-6 * summary.variance["path"]
