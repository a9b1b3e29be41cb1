"""Estimators at the sites of reparameterised guides: a Delta, and the noise that it is made of."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext import distributions as D
from pyro_reparam_ext.estimators.default import default_estimator
from pyro_reparam_ext.noise import NoiseSource
from pyro_reparam_ext.reparam import (
    CholeskyReparam,
    GumbelMaxReparam,
    GumbelSoftmaxReparam,
    InverseCDFReparam,
    StandardizeReparam,
)

from ..statistics import assert_mean

DTYPE = torch.float64
T = torch.tensor(0.7, dtype=DTYPE)
FAMILIES = {
    "standardize": (StandardizeReparam, lambda q: dist.Normal(q, 2.0)),
    "standardize-gamma": (StandardizeReparam, lambda q: dist.Gamma(q.exp(), (0.3 * q).exp())),
    "cholesky": (
        CholeskyReparam,
        lambda q: dist.MultivariateNormal(
            q.unsqueeze(-1) * torch.tensor([1.0, -0.5], dtype=DTYPE), torch.eye(2, dtype=DTYPE)
        ),
    ),
    "inverse-cdf": (InverseCDFReparam, lambda q: dist.Laplace(q, (0.5 * q).exp())),
    "gumbel-softmax": (GumbelSoftmaxReparam, lambda q: D.RelaxedBernoulli(T, logits=q)),
    "straight-through": (GumbelSoftmaxReparam, lambda q: D.StraightThroughBernoulli(T, logits=q)),
    "gumbel-max": (GumbelMaxReparam, lambda q: dist.Bernoulli(logits=q)),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
BOTH = [pre.ScoreFunction(), pre.LeaveOneOut()]


def gradients(family, estimators, reparameterised, particles, draws, on_model=False, seed=0):
    """Of each parameter on a plate; the costs of its rows don't reach the others."""
    reparam, make = FAMILIES[family]
    q = torch.full((draws,), 0.4, dtype=DTYPE, requires_grad=True)

    def model():
        with pyro.plate("draws", draws):
            z = pyro.sample("z", make(torch.tensor(-0.2, dtype=DTYPE)))
            z = z.sum(-1) if make(q).event_dim else z
            pyro.sample("x", dist.Normal(3 * z * z, 2.0), obs=torch.ones(draws, dtype=DTYPE))

    def guide():
        with pyro.plate("draws", draws):
            pyro.sample("z", make(q))

    if reparameterised:
        guide = poutine.reparam(guide, config={"z": reparam(guide=True)})
    if on_model:
        model = poutine.reparam(model, config={"z": reparam()})
    pyro.set_rng_seed(seed)
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=particles, max_plate_nesting=1)
    elbo.differentiable_loss(model, guide).backward()
    return q.grad


@pytest.mark.parametrize("on_model", [False, True])
@pytest.mark.parametrize("estimator", BOTH, ids=str)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gumbel-max"])
def test_a_score_function_for_all_leaves_them_to_pathwise(family, estimator, on_model):
    given, default = (
        gradients(family, e, True, particles=2, draws=5, on_model=on_model) for e in (estimator, None)
    )
    assert default.abs().min() > 0
    torch.testing.assert_close(given, default)


@pytest.mark.parametrize("estimator", BOTH, ids=str)
def test_keys_take_the_score_function(estimator):
    given = gradients("gumbel-max", estimator, True, particles=2, draws=50_000)
    q = torch.tensor(0.4, dtype=DTYPE, requires_grad=True)
    values = torch.tensor([0.0, 1.0], dtype=DTYPE)
    law, prior = dist.Bernoulli(logits=q), dist.Bernoulli(logits=torch.tensor(-0.2, dtype=DTYPE))
    log_q = law.log_prob(values)
    likelihood = dist.Normal(3 * values * values, 2.0).log_prob(torch.tensor(1.0, dtype=DTYPE))
    loss = (log_q.exp() * (log_q - prior.log_prob(values) - likelihood)).sum()
    assert_mean(given[:, None], torch.autograd.grad(loss, q)[0][None])


@pytest.mark.parametrize("estimator", [*BOTH, pre.DisARM()], ids=str)
@every_family
def test_a_named_one_raises(family, estimator):
    name = FAMILIES[family][0].__name__
    with pytest.raises(pre.EstimatorError, match=rf"site 'z'.*{name}\(guide=True\).*before it was"):
        gradients(family, {"z": estimator}, True, particles=2, draws=5)


def test_keys_that_an_estimator_cannot_serve_say_whose_they_are():
    with pytest.raises(pre.EstimatorError, match="site 'z_keys'.*keys of GumbelMaxReparam.*ScoreFunc"):
        gradients("gumbel-max", {"z_keys": pre.DisARM()}, True, particles=2, draws=5)


def observed():
    z = pyro.sample("z", dist.LogNormal(torch.tensor(1.0), 2.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(3.0))


@pytest.mark.parametrize("estimator", BOTH, ids=str)
def test_autoguides(estimator):
    """AutoDelta has a gradient, and a site of AutoNormal is no place for a score function."""
    point = AutoDelta(observed)
    losses = []
    for estimators in (estimator, None):
        point(), point.zero_grad()
        pre.TraceEstimator_ELBO(estimators, num_particles=2).differentiable_loss(
            observed, point
        ).backward()
        losses.append([p.grad.clone() for p in point.parameters()])
    assert losses[0][0].abs() > 0
    torch.testing.assert_close(*losses)
    guide = AutoNormal(observed)
    with pytest.raises(pre.EstimatorError, match="site 'z': .* can't serve Delta.*Pathwise"):
        pre.TraceEstimator_ELBO({"z": estimator}, num_particles=2).loss(observed, guide)


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize(
    "law, unbiased",
    [
        (D.StraightThroughBernoulli(0.7, logits=torch.zeros(3)), False),
        (dist.RelaxedBernoulliStraightThrough(torch.tensor(0.7), logits=torch.zeros(3)), False),
        (D.RelaxedBernoulli(0.7, logits=torch.zeros(3), score="discrete"), False),
        (D.RelaxedBernoulli(0.7, logits=torch.zeros(3)), True),
    ],
    ids=["straight-through", "pyro's straight-through", "discrete score", "relaxed"],
)
def test_the_image_of_a_biased_sampler_says_so(law, unbiased, particles):
    @poutine.reparam(config={"z": GumbelSoftmaxReparam(guide=True)})
    def guide():
        with pyro.plate("rows", 2, dim=-2):
            pyro.sample("z", law)

    fn = poutine.trace(guide).get_trace().nodes["z"]["fn"]
    estimator = default_estimator(fn, NoiseSource(particles))
    assert fn.batch_shape == (2, 3) and isinstance(estimator, pre.Pathwise)
    assert estimator.is_unbiased_at(fn) is unbiased
    assert estimator.is_unbiased_at(fn.expand([4, 2, 3]).to_event(1)) is unbiased


def test_a_study_labels_it():
    make = FAMILIES["straight-through"][1]

    def model():
        z = pyro.sample("z", make(torch.tensor(0.2, dtype=DTYPE)))
        pyro.sample("x", dist.Normal(3 * z * z, 1.0), obs=torch.tensor(2.0, dtype=DTYPE))

    def guide():
        pyro.sample("z", make(pyro.param("q", torch.tensor(0.5, dtype=DTYPE))))

    guide()
    image = poutine.reparam(guide, config={"z": GumbelSoftmaxReparam(guide=True)})
    variants = {"ours": pre.Variant(guide=image), "pyro": pre.Variant(guide=image, elbo=Trace_ELBO())}
    study = pre.gradient_study(
        model, guide, estimators=variants, reference="exact", num_draws=20, progress=False
    )
    assert not study.summary()["unbiased"].any()


def test_a_study_labels_hard_keys_unbiased():
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.4))
        pyro.sample("x", dist.Normal(3 * z, 1.0), obs=torch.tensor(2.0))

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("q", torch.tensor(0.5))))

    guide()
    image = poutine.reparam(guide, config={"z": GumbelMaxReparam(guide=True)})
    assert poutine.trace(image).get_trace().nodes["z"]["fn"].support.is_discrete
    variants = {"ours": pre.Variant(guide=image), "pyro": pre.Variant(guide=image, elbo=Trace_ELBO())}
    study = pre.gradient_study(
        model, guide, estimators=variants, reference="exact", num_draws=20, progress=False
    )
    assert study.summary()["unbiased"].all()
