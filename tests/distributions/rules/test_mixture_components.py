"""Mixtures of components without a pathwise gradient."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import MixtureSameFamily

from ...statistics import assert_mean

LOGITS = torch.tensor([0.3, -0.6], dtype=torch.float64)
SHARES = LOGITS.softmax(-1).numpy()
RATE = torch.tensor([1.5, 6.0], dtype=torch.float64)
PROBS = torch.tensor([0.3, 0.7], dtype=torch.float64)
COUNTS = {
    "Poisson": (dist.Poisson(RATE), [stats.poisson(x) for x in RATE]),
    "Binomial": (
        dist.Binomial(torch.tensor([4.0, 8.0], dtype=torch.float64), PROBS),
        [stats.binom(4, 0.3), stats.binom(8, 0.7)],
    ),
    "NegativeBinomial": (
        dist.NegativeBinomial(2.5, PROBS),
        [stats.nbinom(2.5, 0.7), stats.nbinom(2.5, 0.3)],
    ),
}
every_count = pytest.mark.parametrize(("component", "parts"), COUNTS.values(), ids=COUNTS)
LOC = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
CONCENTRATION = torch.tensor([[2.0, 3.0, 1.5], [6.0, 0.8, 2.0]], dtype=torch.float64)
VECTORS = {
    "MultivariateNormal": dist.MultivariateNormal(LOC, torch.eye(2, dtype=torch.float64)),
    "Dirichlet": dist.Dirichlet(CONCENTRATION),
    "our Dirichlet": pre.distributions.Dirichlet(CONCENTRATION),
}


def mixture(component, **options):
    return MixtureSameFamily(dist.Categorical(logits=LOGITS), component, **options)


@every_count
def test_counts_are_scored_as_scipy_does(component, parts):
    fn = mixture(component, validate_args=False)
    x = np.array([-1.0, 0.0, 0.5, 1.0, 4.0, 7.0, 9.0])
    with np.errstate(divide="ignore"):
        expected = np.log(sum(w * part.pmf(x) for w, part in zip(SHARES, parts, strict=True)))
    np.testing.assert_allclose(fn.log_prob(torch.tensor(x)), expected, rtol=1e-6)
    cdf = sum(w * part.cdf(x) for w, part in zip(SHARES, parts, strict=True))
    np.testing.assert_allclose(fn.cdf(torch.tensor(x)), cdf, rtol=1e-6, atol=1e-12)
    integers = torch.arange(3)
    torch.testing.assert_close(fn.log_prob(integers), fn.log_prob(integers.double()))


@every_count
def test_counts_have_moments_and_gradients(component, parts):
    fn = mixture(component, validate_args=False)
    mean = sum(w * part.mean() for w, part in zip(SHARES, parts, strict=True))
    second = sum(w * (part.var() + part.mean() ** 2) for w, part in zip(SHARES, parts, strict=True))
    torch.testing.assert_close(fn.mean.item(), mean)
    torch.testing.assert_close(fn.variance.item(), second - mean**2)
    logits = LOGITS.clone().requires_grad_()
    fn = MixtureSameFamily(dist.Categorical(logits=logits), component, validate_args=False)
    scored = fn.log_prob(torch.tensor([2.0, -1.0, 2.5], dtype=torch.float64))
    (within,) = torch.autograd.grad(scored[0], logits, retain_graph=True)
    assert within.isfinite().all() and (within != 0).any()
    (off,) = torch.autograd.grad(scored[1:].sum(), logits)
    assert (scored[1:] == -math.inf).all() and (off == 0).all()


@every_count
def test_counts_follow_the_law(component, parts):
    fn = mixture(component)
    drawn = fn.sample((5_000,))
    assert fn.support.check(drawn).all()
    counts = torch.arange(6, dtype=torch.float64)
    assert_mean((drawn[:, None] == counts).double(), fn.log_prob(counts).exp())


def test_binomials_of_several_totals_have_the_union_for_a_support():
    fn = mixture(COUNTS["Binomial"][0])
    assert fn.support.check(torch.tensor([0.0, 7.0, 9.0, 1.5])).tolist() == [True, True, False, False]


@pytest.mark.parametrize("component", VECTORS.values(), ids=VECTORS)
def test_vectors_are_scored_by_an_explicit_sum(component):
    fn = mixture(component, validate_args=False)
    drawn = fn.sample((4_000,))
    assert drawn.shape == (4_000, *component.event_shape)
    assert fn.support.check(drawn).all()
    expected = (component.log_prob(drawn.unsqueeze(-2)) + LOGITS.log_softmax(-1)).logsumexp(-1)
    torch.testing.assert_close(fn.log_prob(drawn), expected)
    assert_mean(drawn, fn.mean)
    assert_mean((drawn - fn.mean).square(), fn.variance)
    with pytest.raises(NotImplementedError):
        fn.cdf(drawn)


@pytest.mark.parametrize("component", [VECTORS["Dirichlet"], VECTORS["our Dirichlet"]])
def test_a_vector_off_the_support(component):
    value = torch.tensor([[0.2, 0.3, 0.9], [-0.2, 0.3, 0.9]], dtype=torch.float64, requires_grad=True)
    log_prob = mixture(component, validate_args=False).log_prob(value)
    assert (log_prob == -math.inf).all()
    assert (torch.autograd.grad(log_prob.sum(), value)[0] == 0).all()


@pytest.mark.parametrize("component", [*(c for c, _ in COUNTS.values()), *VECTORS.values()])
def test_shapes(component):
    fn = mixture(component)
    event = component.event_shape
    wide = fn.expand((3, 2))
    assert type(wide) is MixtureSameFamily and not wide.has_rsample
    value = wide.sample((5,))
    assert value.shape == (5, 3, 2, *event)
    torch.testing.assert_close(wide.log_prob(value), fn.log_prob(value))
    assert wide.to_event(1).log_prob(value).shape == (5, 3)
    weights = dist.Categorical(logits=LOGITS.expand(4, 2))
    assert MixtureSameFamily(weights, component).sample().shape == (4, *event)


@pytest.mark.parametrize("elbo", [pyro.infer.Trace_ELBO, pre.TraceEstimator_ELBO])
def test_as_a_likelihood_in_a_plate(elbo):
    data = torch.tensor([0.0, 2.0, 7.0], dtype=torch.float64)

    def model():
        rate = pyro.param("rate", RATE.clone(), constraint=dist.constraints.positive)
        with pyro.plate("data", 3):
            pyro.sample("x", mixture(dist.Poisson(rate)), obs=data)

    loss = elbo().loss_and_grads(model, lambda: None)
    assert loss == pytest.approx(-mixture(dist.Poisson(RATE)).log_prob(data).sum().item())
    gradient = dict(pyro.get_param_store().named_parameters())["rate"].grad
    assert gradient.isfinite().all() and (gradient != 0).all()


def test_as_a_latent_site_by_the_score_function():
    def guide():
        logits = pyro.param("logits", LOGITS.clone())
        pyro.sample("x", MixtureSameFamily(dist.Categorical(logits=logits), dist.Poisson(RATE)))

    def model():
        pyro.sample("x", dist.Poisson(torch.tensor(3.0, dtype=torch.float64)))

    pre.TraceEstimator_ELBO(num_particles=3).loss_and_grads(model, guide)
    assert pyro.param("logits").grad.isfinite().all()
