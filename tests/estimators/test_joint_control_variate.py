"""The joint control variate: no noise of sub-samples near a snapshot, less far away, never a bias."""

from itertools import combinations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal

import pyro_reparam_ext as pre

from ..compiled.steps import assert_same_steps
from ..sampling import gradients
from ..statistics import assert_mean

DOUBLE = torch.float64
X = torch.tensor([[0.5, -1.0], [1.0, 0.3], [-0.4, 0.8], [0.2, 0.2]], dtype=DOUBLE)
Y = torch.tensor([1.0, 3.0, 0.0, 2.0], dtype=DOUBLE)
ZERO, ONE = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)
SUBSETS = [torch.tensor(x) for x in combinations(range(4), 2)]


def data(index=None, part=2):
    """A rate for each datum of a sub-sample, which is given or drawn."""
    slopes = pyro.sample("slopes", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
    mean = pyro.sample("mean", dist.Normal(ZERO, 2.0))
    with pyro.plate("data", 4, None if index is not None else part, index) as index:
        yield mean + (slopes * X[index]).sum(-1), index


def quadratic(index=None, part=2):
    for rate, seen in data(index, part):
        pyro.sample("y", dist.Normal(rate, 0.7), obs=Y[seen])


def exponential(index=None, part=2):
    for rate, seen in data(index, part):
        pyro.sample("y", dist.Poisson(rate.exp()), obs=Y[seen])


LOCS = {"slopes": torch.tensor([0.3, -0.2], dtype=DOUBLE), "mean": ZERO + 0.4}
SCALES = {"slopes": torch.tensor([0.5, 0.3], dtype=DOUBLE), "mean": ZERO + 0.6}
NAMES = ["slopes_loc", "mean_loc", "slopes_scale", "mean_scale"]


def guide(index=None, part=2):
    for name, loc in LOCS.items():
        loc = pyro.param(f"{name}_loc", loc.clone())
        scale = pyro.param(f"{name}_scale", SCALES[name].clone())
        pyro.sample(name, dist.Normal(loc, scale).to_event(loc.dim()))


def move(by):
    """Moves the means away from where the snapshot was taken."""
    with torch.no_grad():
        for name in NAMES[:2]:
            pyro.param(name).add_(by)


def joint_elbo(**options):
    return pre.TraceEstimator_ELBO(pre.JointControlVariate(), max_plate_nesting=1, **options)


def learned(elbo, model, guide, *args, steps=40):
    """The same ELBO, whose coefficients have been fitted at the parameters as they are."""
    for _ in range(steps):
        elbo.loss_and_grads(model, guide, *args)
    return elbo


def variance(elbo, model, guide, calls=60):
    rows = gradients(elbo, model, guide, list(pyro.get_param_store()), calls)[:, 1:]
    return rows.var(0).sum().item()


def autoguide_of(model, kind):
    pyro.set_rng_seed(0)
    guide = kind(model, init_scale=0.3)
    guide()
    guide.double()
    with torch.no_grad():
        for parameter in guide.parameters():  # covariances, too
            parameter.add_(0.2 * torch.randn_like(parameter))
    return guide


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("kind", [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal])
def test_quadratic_costs_have_no_noise_at_the_snapshot(kind, particles, mode):
    auto = autoguide_of(quadratic, kind)
    elbo = joint_elbo(num_particles=particles, vectorize_particles=mode)
    pre.take_snapshot(elbo, quadratic, auto)
    learned(elbo, quadratic, auto)
    plain, names = pre.TraceEstimator_ELBO(max_plate_nesting=1), list(pyro.get_param_store())
    rows = gradients(plain, quadratic, auto, names, 60)[:, 1:]
    found = gradients(elbo, quadratic, auto, names, 20)[:, 1:]
    assert found.var(0).sum() < 1e-6 * rows.var(0).sum() / particles
    of_all_data = gradients(plain, quadratic, auto, names, 300, torch.arange(4))[:, 1:]
    assert_mean(of_all_data, found.mean(0))


COEFFICIENTS = {"loc": (0.7, 0.4), "factor": (0.9, 0.3)}


def with_coefficients(elbo):
    """Fixes what has been learned at all sites."""
    for state in elbo.states.values():
        for fitted, wanted in ((state.of_loc, "loc"), (state.of_factor, "factor")):
            fitted.products.copy_(torch.eye(2, dtype=DOUBLE) * (1 - 1e-4))
            coefficients = torch.tensor(COEFFICIENTS[wanted], dtype=DOUBLE)
            fitted.with_target.copy_(coefficients * (1 - 1e-4) * (1 + 1e-4))


def costs(z, index):
    """Minus the log joint of slopes and mean, as one vector, without constants."""
    rate = z[2] + X[index] @ z[:2]
    prior = (z[:2] ** 2).sum() / 2 + z[2] ** 2 / 8
    return prior + 4 / len(index) * (rate.exp() - Y[index] * rate).sum()


def derivatives(z, index):
    def f(x):
        return costs(x, index)

    return torch.autograd.functional.jacobian(f, z), torch.autograd.functional.hessian(f, z)


def by_hand(index, noise, old):
    """The estimate, in the order of the names, in plain torch."""
    loc = torch.cat([pyro.param(name).detach().reshape(-1) for name in NAMES[:2]])
    scale = torch.cat([pyro.param(name).detach().reshape(-1) for name in NAMES[2:]])
    whole = torch.arange(4)
    slope, (g, hessian) = derivatives(loc + scale * noise, index)[0], derivatives(old, index)
    all_g, all_hessian = derivatives(old, whole)
    moved = hessian @ (scale * noise)
    (a, b), (c, d) = COEFFICIENTS.values()
    in_loc = slope - a * (g - all_g) - b * moved
    curved = all_hessian.diagonal() * scale
    in_scale = slope * noise - c * g * noise - d * (moved * noise - curved) - 1 / scale
    return torch.cat([in_loc, in_scale])


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_closed_form_on_every_sub_sample(mode):
    elbo = joint_elbo(vectorize_particles=mode)
    pre.take_snapshot(elbo, exponential, guide)
    old = torch.cat([LOCS["slopes"], LOCS["mean"][None]])
    move(0.3)
    rows, wanted = [], []
    for index in SUBSETS:
        pyro.set_rng_seed(5)
        with_coefficients(elbo)
        rows.append(gradients(elbo, exponential, guide, NAMES, 1, index)[0, 1:])
        pyro.set_rng_seed(5)
        noise = torch.cat([torch.randn(2, dtype=DOUBLE), torch.randn((), dtype=DOUBLE)[None]])
        wanted.append(by_hand(index, noise, old))
    torch.testing.assert_close(torch.stack(rows), torch.stack(wanted))
    # Over the sub-samples of two the mean is the estimate of all data, whose (g - all_g) is zero.
    torch.testing.assert_close(torch.stack(rows).mean(0), by_hand(torch.arange(4), noise, old))


def exact():
    """The gradient of minus the ELBO of the exponential model."""
    values = [pyro.param(name).detach().clone().requires_grad_() for name in NAMES]
    slopes, mean, slope_scale, mean_scale = values
    rate = mean + X @ slopes
    rates = (rate + (X**2 @ slope_scale**2 + mean_scale**2) / 2).exp()
    prior = ((slopes**2 + slope_scale**2).sum()) / 2 + (mean**2 + mean_scale**2) / 8
    loss = prior - slope_scale.log().sum() - mean_scale.log() + (rates - Y * rate).sum()
    return torch.cat([x.flatten() for x in torch.autograd.grad(loss, values)])


@pytest.mark.parametrize(
    ("mode", "particles", "part"), [(True, 1, 2), (True, 2, 3), ("vmap", 2, 2), ("vmap", 1, 3)]
)
def test_an_old_snapshot_has_no_bias(mode, particles, part):
    """Nor where the sub-samples of the snapshot, of three, don't divide the four data."""
    elbo = joint_elbo(num_particles=particles, vectorize_particles=mode)
    pre.take_snapshot(elbo, exponential, guide, part=part)
    move(0.25)
    learned(elbo, exponential, guide, None, part)
    assert_mean(gradients(elbo, exponential, guide, NAMES, 800, None, part)[:, 1:], exact())


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_without_a_snapshot_there_is_no_bias(mode):
    elbo = learned(joint_elbo(vectorize_particles=mode), exponential, guide)
    assert_mean(gradients(elbo, exponential, guide, NAMES, 300)[:, 1:], exact())


@pytest.mark.parametrize("particles", [1, 2])
def test_one_by_one(particles):
    """A guide of one site needs no evaluation that is shared."""
    auto = autoguide_of(quadratic, AutoMultivariateNormal)
    elbo = joint_elbo(num_particles=particles, vectorize_particles=False)
    pre.take_snapshot(elbo, quadratic, auto)
    learned(elbo, quadratic, auto)
    plain = pre.TraceEstimator_ELBO(max_plate_nesting=1, num_particles=particles)
    assert variance(elbo, quadratic, auto, 30) < 1e-6 * variance(plain, quadratic, auto, 30)


def snapshot_of(elbo):
    return [x.clone() for s in elbo.states.values() for x in (s.point, s.slope, s.hessian)]


def test_batches_are_averaged():
    found, halves = [], [(SUBSETS[0],), (SUBSETS[5],)]
    for batches in (None, [(torch.arange(4),)], [(x,) for x in SUBSETS], halves):
        elbo = joint_elbo(num_particles=2)
        pre.take_snapshot(elbo, exponential, guide, batches)
        found.append(snapshot_of(elbo))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other)


def test_it_never_does_harm():
    elbo = joint_elbo()
    with torch.no_grad():
        guide()
        move(-3.0)
        pre.take_snapshot(elbo, exponential, guide)
        move(3.0)
    learned(elbo, exponential, guide, steps=300)
    plain = pre.TraceEstimator_ELBO(pre.Pathwise(), max_plate_nesting=1)
    assert variance(elbo, exponential, guide, 500) < 1.2 * variance(plain, exponential, guide, 500)


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("given", [False, True])
def test_captured_before_the_next_snapshot(kind, given):
    made = []

    def programs():
        auto = autoguide_of(exponential, kind)
        made[:] = [exponential, auto, joint_elbo(num_particles=2)]
        return tuple(made)

    def args(number):
        if number in (0, 3):
            model, auto, elbo = made
            pre.take_snapshot(elbo, model, auto, [(torch.arange(4),)] if given else None)
        return (SUBSETS[number % len(SUBSETS)],) if given else ()

    assert_same_steps(programs, args, count=6, tolerance=1e-9)


@pytest.mark.parametrize("other", [pre.TaylorControlVariate, pre.StickingTheLanding, pre.Pathwise])
@pytest.mark.parametrize("mode", [True, False])
def test_beside_other_estimators_without_a_snapshot(other, mode):
    estimators = {"slopes": pre.JointControlVariate(), "mean": other()}
    elbo = pre.TraceEstimator_ELBO(estimators, max_plate_nesting=1, vectorize_particles=mode)
    learned(elbo, exponential, guide)
    assert_mean(gradients(elbo, exponential, guide, NAMES, 300)[:, 1:], exact())
