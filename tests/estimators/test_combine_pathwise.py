"""Pathwise gradients, mixed: each weight gives what its part does, fitted ones the least noise."""

import copy
from functools import partial

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as transforms
import pytest
import torch
from pyro import poutine
from pyro.infer import autoguide

import pyro_reparam_ext as pre

from ..compiled.steps import assert_same_steps
from ..sampling import gradients
from ..statistics import assert_mean
from .test_taylor_control_variate import exact_hierarchy, hierarchy, hierarchy_model

DOUBLE = torch.float64
PARTS = [pre.Pathwise(), pre.StickingTheLanding()]
POSITIVE = dist.constraints.positive
X = torch.tensor([[0.5, -1.0], [1.0, 0.3], [-0.4, 0.8], [0.2, 0.2]], dtype=DOUBLE)
Y = torch.tensor([1.0, 3.0, 0.0, 2.0], dtype=DOUBLE)
SEEN = torch.tensor([True, True, False, True])


def double(*x):
    return torch.tensor(x, dtype=DOUBLE)


def model(batch=None):
    """A mean, slopes, masked effects of levels, and a masked and scaled effect of each datum."""
    top = pyro.sample("top", dist.Normal(double(0.0)[0], 1.0))
    slopes = pyro.sample("slopes", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
    with pyro.plate("levels", 3), poutine.mask(mask=SEEN[:3]):
        low = pyro.sample("low", dist.Normal(top, 1.0))
    with pyro.plate("data", 4, subsample_size=batch) as i:
        own = pyro.sample("own", dist.Normal(top, 1.0))
        rate = ((slopes * X[i]).sum(-1) + own + low.sum(-1, keepdim=True)) / 3
        pyro.sample("y", dist.Poisson(rate.exp()), obs=Y[i])


def guide(batch=None):
    """Every site depends on those before it, and all on one weight."""
    weight = pyro.param("weight", double(0.8)[0])
    scales = pyro.param("scales", double(0.7, 0.4, 0.5, 0.6), POSITIVE)
    top = pyro.sample("top", dist.Normal(pyro.param("top_loc", double(0.3)[0]), scales[0]))
    loc = pyro.param("slopes_loc", double(0.1, -0.2)) + weight * top.unsqueeze(-1)
    slopes = pyro.sample("slopes", dist.Normal(loc, scales[1]).to_event(1))
    with pyro.plate("levels", 3), poutine.mask(mask=SEEN[:3]):
        loc = pyro.param("low_loc", double(0.1, 0.2, 0.3)) + weight * top
        low = pyro.sample("low", dist.Normal(loc, scales[2]))
    with pyro.plate("data", 4, subsample_size=batch) as i, poutine.scale(scale=1.5):
        loc = weight * slopes.sum(-1) + low.sum(-1, keepdim=True)
        pyro.sample("own", dist.Normal(loc, scales[3]).mask(SEEN[i]))


NAMES = ["weight", "scales", "top_loc", "slopes_loc", "low_loc"]


def elbo_of(estimator, num_particles=1, mode=True, scheme="independent"):
    return pre.TraceEstimator_ELBO(
        estimator,
        num_particles=num_particles,
        vectorize_particles=mode,
        max_plate_nesting=2,
        particles=scheme,
    )


def at_weights(elbo, share):
    """Fixes the weights of all sites: ``share`` for the second part."""
    for state in (x for key, x in elbo.states.items() if key.endswith("Combine")):
        state.fitted.products.fill_(1.0)
        state.fitted.with_target.fill_(share * (1 + 1e-4))


def found(estimator, particles, mode, batch, share=None):
    pyro.clear_param_store()
    torch.manual_seed(0)
    elbo = elbo_of(estimator, particles, mode)
    for _ in range(3):
        elbo.loss_and_grads(model, guide, batch)
    at_weights(elbo, share)
    torch.manual_seed(1)
    return gradients(elbo, model, guide, NAMES, 1, batch)[0]


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize(("mode", "particles"), [(True, 3), (True, 1), ("vmap", 3), (False, 2)])
def test_each_weight_is_that_of_its_part(mode, particles, batch):
    """At the same draws: in plates, masked and scaled, at sites that depend on each other."""
    alone = [found(part, particles, mode, batch) for part in PARTS]
    assert (alone[0] - alone[1])[1:].abs().min() < 0.1 < (alone[0] - alone[1])[1:].abs().max()
    for share in (0.0, 0.7, 1.0):
        mixed = found(pre.Combine(PARTS), particles, mode, batch, share)
        torch.testing.assert_close(mixed, (1 - share) * alone[0] + share * alone[1])
    turned = found(pre.Combine(PARTS[::-1]), particles, mode, batch, 0.7)
    torch.testing.assert_close(turned, 0.7 * alone[0] + 0.3 * alone[1])


def test_the_score_does_not_move_with_values_upstream():
    """Where these are copied for another estimator, too."""
    estimators = {"top": pre.TaylorControlVariate(), "low": pre.Combine(PARTS)}
    with_score, without = (found(estimators, 2, True, None, share) for share in (0.0, 1.0))
    moved = dict(zip(["loss", *NAMES], (with_score - without).split([1, 1, 4, 1, 2, 3]), strict=True))
    assert moved["low_loc"].abs().max() > 0.1 < moved["weight"].abs()
    torch.testing.assert_close(moved["top_loc"], double(0.0))
    torch.testing.assert_close(moved["scales"][:2], double(0.0, 0.0))


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_mean_with_fitted_weights(mode):
    names = ["weight", "scale", "aside_loc"]
    elbo = elbo_of(pre.Combine(PARTS), 4 if mode else 2, mode)
    for _ in range(20):
        elbo.loss_and_grads(hierarchy_model, hierarchy)
    rows = gradients(elbo, hierarchy_model, hierarchy, names, 400 if mode else 200)[:, 1:]
    assert_mean(rows, exact_hierarchy())


def one_normal(loc, scale):
    def guide():
        scale_ = pyro.param("scale", double(scale)[0], POSITIVE)
        pyro.sample("z", dist.Normal(pyro.param("loc", double(loc)[0]), scale_))

    return guide


def standard():
    pyro.sample("z", dist.Normal(double(0.0)[0], 1.0))


@pytest.mark.parametrize("particles", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_weights_are_those_of_least_noise(scale, particles):
    r"""Against the closed form: :math:`g = f' (1, e)` with :math:`f' = z - e / s`, and the score."""
    pyro.set_rng_seed(0)
    program, elbo = (standard, one_normal(0.0, scale)), elbo_of(pre.Combine(PARTS), particles)
    for _ in range(1500):
        elbo.loss_and_grads(*program)
    (state,) = elbo.states.values()
    # In loc and log scale: landing is (s - 1 / s) e (1, s e), the score (e / s, e^2 - 1).
    a = scale - 1 / scale
    covariance, squares = a / scale + 2 * a * scale, 1 / scale**2 + 2
    assert state()[0].item() == pytest.approx(-covariance / squares, abs=0.15, rel=0.15)
    assert state().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("scheme", ["independent", "antithetic", "sobol"])
@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (0.5, 0.3), (2.0, 3.0)])
def test_no_noisier_than_the_better_part(loc, scale, scheme):
    """At the posterior, at a narrow guide and at a wide one."""
    program = one_normal(loc, scale)
    labels = {"combined": pre.Combine(PARTS), "pathwise": PARTS[0], "landing": PARTS[1]}
    study = pre.gradient_study(
        standard,
        program,
        estimators={label: elbo_of(part, 8, scheme=scheme) for label, part in labels.items()},
        num_draws=1000,
        warmup=300,
    )
    variance = study.summary().variance
    best = variance[["pathwise", "landing"]].min()
    assert variance["combined"] < 1.15 * best + 1e-6 * variance["pathwise"]


def test_weights_of_a_step_are_those_of_steps_before():
    elbo = elbo_of(pre.Combine(PARTS), 2)
    program = standard, one_normal(0.5, 0.3)
    elbo.loss_and_grads(*program)
    (state,) = elbo.states.values()
    before = copy.deepcopy(state)
    torch.manual_seed(2)
    drawn = [gradients(elbo, *program, ["loc", "scale"], 1)[0]]
    assert not state.fitted.products.equal(before.fitted.products)
    state.load_state_dict(before.state_dict())
    torch.manual_seed(2)
    drawn.append(gradients(elbo, *program, ["loc", "scale"], 1)[0])
    torch.testing.assert_close(*drawn)


def mixture(param):
    weights = dist.Categorical(logits=param("logits", double(0.2, -0.3)))
    scale = param("scale", double(0.5, 1.0), POSITIVE)
    return pre.distributions.MixtureSameFamily(
        weights, dist.Normal(param("loc", double(-1.0, 2.0)), scale)
    )


def gamma(param):
    return dist.Gamma(param("a", double(2.5)[0], POSITIVE), param("b", double(1.3)[0], POSITIVE))


def multivariate(param):
    tril = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=DOUBLE)
    tril = param("tril", tril, dist.constraints.lower_cholesky)
    return dist.MultivariateNormal(param("mean", double(1.0, 2.0)), scale_tril=tril)


@pytest.mark.parametrize("make", [mixture, gamma, multivariate])
def test_no_noise_at_the_posterior(make):
    """Of distributions whose tensors are not all their own, too."""

    def guide():
        pyro.sample("z", make(pyro.param))

    def model():
        pyro.sample("z", make(lambda name, x, *constraint: x))

    variances = []
    for estimator in (pre.Combine(PARTS), pre.Pathwise()):
        elbo = elbo_of(estimator, 4)
        for _ in range(30):
            elbo.loss_and_grads(model, guide)
        rows = gradients(elbo, model, guide, list(pyro.get_param_store()), 50)[:, 1:]
        variances.append(rows.var(0).sum())
    assert variances[0] < 1e-6 * variances[1]


@pytest.mark.parametrize("kind", ["normal", "multivariate", "flow"])
def test_mean_in_autoguides(kind):
    """That of plain gradients of the same draws, from which it differs by what has a mean of zero."""

    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        w = pyro.sample("w", dist.Gamma(2.0, 1.0))
        pyro.sample("y", dist.Normal(z.sum(-1) * w, 0.5), obs=torch.tensor(1.5))

    kinds = {
        "normal": autoguide.AutoNormal,
        "multivariate": autoguide.AutoMultivariateNormal,
        "flow": lambda model: autoguide.AutoIAFNormal(model, hidden_dim=[8], num_transforms=1),
    }
    torch.manual_seed(0)
    auto, rows = kinds[kind](model), []
    for estimator in (pre.Combine(PARTS), pre.Pathwise()):
        elbo = elbo_of(estimator, 4)
        for _ in range(30):
            elbo.loss_and_grads(model, auto)
        torch.manual_seed(1)
        rows.append(gradients(elbo, model, auto, list(pyro.get_param_store()), 300)[:, 1:])
    assert (rows[0] - rows[1]).abs().max() > 1e-3
    assert_mean(rows[0] - rows[1], torch.zeros(rows[0].shape[1]))


@pytest.mark.parametrize(
    "other", [pre.TaylorControlVariate(), pre.Pathwise(), pre.LeaveOneOut()], ids=repr
)
@pytest.mark.parametrize("coin", [pre.DisARM(), pre.Enumeration(), pre.LeaveOneOut()], ids=repr)
def test_between_other_estimators(coin, other):
    """A coin moves z, and both move w: against the ELBO in closed form."""
    initial = {"logit": 0.3, "loc": 0.4, "of_b": 0.7, "s": 0.6, "slope": 0.8, "w_b": -0.5}
    start = {name: torch.tensor(x, dtype=DOUBLE) for name, x in initial.items()}

    def model():
        b = pyro.sample("b", dist.Bernoulli(double(0.5)[0]))
        z = pyro.sample("z", dist.Normal(double(0.0)[0], 1.0))
        w = pyro.sample("w", dist.Normal(z, 1.0))
        pyro.sample("y", dist.Normal(w + b, 1.0), obs=Y[0])

    def guide():
        p = {name: pyro.param(name, x.clone()) for name, x in start.items()}
        b = pyro.sample("b", dist.Bernoulli(logits=p["logit"]))
        z = pyro.sample("z", dist.Normal(p["loc"] + p["of_b"] * b, p["s"]))
        pyro.sample("w", dist.Normal(p["slope"] * z + p["w_b"] * b, 0.9))

    def loss(logit, loc, of_b, s, slope, w_b):
        b, q = double(0.0, 1.0), torch.stack([-logit, logit]).sigmoid()
        z = loc + of_b * b
        w = slope * z + w_b * b
        apart = (w - z) ** 2 + (slope - 1) ** 2 * s**2
        given = (z**2 + s**2 + apart + (Y[0] - w - b) ** 2 + slope**2 * s**2) / 2 - s.log()
        return (q * (q.log() + given)).sum()

    exact = torch.func.grad(loss, argnums=tuple(range(6)))(*start.values())
    elbo = elbo_of({"b": coin, "z": pre.Combine(PARTS), "w": other}, 64)
    for _ in range(5):
        elbo.loss_and_grads(model, guide)
    rows = gradients(elbo, model, guide, list(start), 100)[:, 1:]
    assert_mean(rows, torch.stack(exact))


def test_captured():
    def programs():
        elbo = pre.TraceEstimator_ELBO(pre.Combine(PARTS), num_particles=4, max_plate_nesting=2)
        return model, guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


def test_distributions_that_are_refused():
    def partly():
        pyro.sample("z", dist.testing.fakes.NonreparameterizedGamma(double(2.0)[0], 1.0))

    def flow(infer=None):
        base = dist.Normal(pyro.param("loc", double(0.0)[0]), 1.0)
        pyro.sample("z", dist.TransformedDistribution(base, [transforms.ExpTransform()]), infer=infer)

    elbo = pre.TraceEstimator_ELBO({"z": pre.Combine(PARTS)})
    with pytest.raises(pre.EstimatorError, match="'z': .*Pathwise"):
        elbo.loss(partly, partly)
    assert elbo.loss(flow, flow) == pytest.approx(0.0)
    bound = pre.ImportanceWeighted_ELBO(num_particles=2)
    with pytest.raises(pre.EstimatorError, match="'z'.*bound by several particles"):
        bound.loss_and_grads(flow, partial(flow, {"estimator": pre.Combine(PARTS)}))


def test_a_sampler_that_can_be_differentiated_once_beside_one_who_differentiates_twice():
    """RELAX takes the derivative of the gradient in its own relaxed value, not in this one."""

    def number(x):
        return torch.tensor(x, dtype=DOUBLE)

    def model():
        rate = pyro.sample("rate", dist.Gamma(number(2.0), number(1.0)))
        b = pyro.sample("b", dist.Bernoulli(logits=number(0.3)))
        pyro.factor("f", -rate * b)

    def guide():
        pyro.sample("rate", dist.Gamma(pyro.param("a", number(1.5)), number(1.0)))
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("logits", number(0.1))))

    either = pre.Combine([pre.Pathwise(), pre.StickingTheLanding()])
    elbo = pre.TraceEstimator_ELBO({"rate": either, "b": pre.RELAX()})
    for _ in range(2):
        elbo.loss_and_grads(model, guide)
    assert pyro.param("a").grad.isfinite() and pyro.param("logits").grad.isfinite()
