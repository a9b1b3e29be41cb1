"""Mixtures with a value of every component: exact where costs are, and what it can't serve."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..statistics import assert_mean

DOUBLE = torch.float64
LOGITS = torch.tensor([0.4, -0.3, 0.1], dtype=DOUBLE)
LOC = torch.tensor([[-2.0, 0.5], [0.0, 0.3], [3.0, -1.0]], dtype=DOUBLE)


def vector(logits, loc):
    components = dist.Normal(loc, 0.5).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)


def coordinates(logits, loc):
    """Two mixtures of one coordinate each."""
    weights = dist.Categorical(logits=logits.expand(2, 3))
    return dist.MixtureSameFamily(weights, dist.Normal(loc.t(), 0.5)).to_event(1)


def theirs(logits, loc):
    return dist.MixtureOfDiagNormals(loc, torch.full_like(loc, 0.5), logits)


def ours(logits, loc):
    scale = torch.full((2,), 0.5, dtype=DOUBLE)
    return pre.distributions.MixtureOfDiagNormalsSharedCovariance(loc, scale, logits)


LAWS = [vector, coordinates, theirs, ours]


def gradients(law, score, calls=1, **options):
    """Rows of the gradient of ``E[score(z)]`` in logits and means; the model's law is the guide's."""

    def parameters():
        return pyro.param("logits", LOGITS.clone()), pyro.param("loc", LOC.clone())

    def guide():
        pyro.sample("z", law(*parameters()))

    def model():
        z = pyro.sample("z", law(*(x.detach() for x in parameters())))
        pyro.factor("score", -score(z))

    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(pre.Stratified(), **options)
    rows = []
    for _ in range(calls):
        for name in ("logits", "loc"):
            if name in pyro.get_param_store():
                pyro.param(name).grad = None
        elbo.loss_and_grads(model, guide)
        rows.append(torch.cat([pyro.param(name).grad.flatten() for name in ("logits", "loc")]))
    return torch.stack(rows)


def exact(law):
    """That of ``E[sin(z_1) + z_1 z_2]``, for normal components with independent coordinates."""
    logits, loc = LOGITS.clone().requires_grad_(), LOC.clone().requires_grad_()
    weights = logits.softmax(-1)
    sine = weights @ (loc[:, 0].sin() * torch.tensor(-0.125).double().exp())
    apart = law is coordinates
    product = (weights @ loc[:, 0]) * (weights @ loc[:, 1]) if apart else weights @ loc.prod(-1)
    return torch.cat([g.flatten() for g in torch.autograd.grad(sine + product, [logits, loc])])


def score(z):
    return z[..., 0].sin() + z.prod(-1)


@pytest.mark.parametrize("law", LAWS)
def test_mean(law):
    assert_mean(gradients(law, score, 40, num_particles=100), exact(law))


@pytest.mark.parametrize("law", [vector, theirs, ours])
def test_costs_of_components_far_apart_teach_weights_without_variance(law):
    rows = gradients(lambda logits, loc: law(logits, 40 * loc), lambda z: (z[..., 0] > 60) * 1.0, 3)
    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(logits.softmax(-1)[2], logits)
    torch.testing.assert_close(rows[:, :3], slope.expand(3, -1))


def test_a_component_without_weight_changes_nothing():
    global LOGITS
    before, LOGITS = LOGITS, torch.tensor([0.4, -torch.inf, 0.1], dtype=DOUBLE)
    try:
        rows = gradients(vector, score, 3)
    finally:
        LOGITS = before
    assert rows.isfinite().all() and (rows[:, 1] == 0).all() and (rows[:, 5:7] == 0).all()


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(0.0, 1.0),
        dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Poisson(torch.ones(2))),
    ],
)
def test_unserved(fn):
    assert not pre.Stratified().supports(fn)


def test_evaluations():
    assert pre.Stratified().evaluations(vector(LOGITS, LOC)) == 4
    assert pre.Stratified().evaluations(coordinates(LOGITS, LOC)) == 7


def test_below_the_score_function_and_the_path():
    """Three separated normals, four evaluations each, a cost that differs between components."""
    means = torch.tensor([-6.0, 0.0, 6.0])

    def law(logits):
        weights = dist.Categorical(logits=logits)
        return pre.distributions.MixtureSameFamily(weights, dist.Normal(means, 0.5))

    def guide():
        pyro.sample("z", law(pyro.param("logits", torch.zeros(3))))

    def model():
        pyro.factor("cost", -0.1 * (pyro.sample("z", law(torch.zeros(3))) - 2) ** 2)

    elbos = {
        name: pre.TraceEstimator_ELBO(estimator, num_particles=particles)
        for name, estimator, particles in (
            ("strata", pre.Stratified(), 1),
            ("score", pre.LeaveOneOut(), 4),
            ("path", pre.Pathwise(), 4),
        )
    }
    pyro.clear_param_store()
    study = pre.gradient_study(model, guide, estimators=elbos, num_draws=2000, progress=False)
    low, high = study.summary()["variance_low"], study.summary()["variance_high"]["strata"]
    assert low["score"] > 5 * high and low["path"] > 50 * high


def test_every_class_of_mixtures_is_served():
    assert all(pre.Stratified().supports(law(LOGITS, LOC)) for law in LAWS)
