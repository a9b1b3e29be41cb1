"""Every unbiased estimator, at every distribution it serves, in every layout."""

import pytest

import pyro_reparam_ext as pre

from .layouts import ALONE
from .registry import REGISTRY, cases, layout_of
from .sampling import layout_gradients
from .slow import one_in
from .statistics import assert_mean

PARTICLES, CALLS = 150, 40


def elbo_of(label, layout, **options):
    estimators = {site: REGISTRY[label].make() for site in layout.sites}
    return pre.TraceEstimator_ELBO(estimators, **options)


@pytest.mark.parametrize(("label", "family", "layout"), cases())
def test_mean_of_gradient(label, family, layout):
    calls = 2 if REGISTRY[label].exact and layout in ALONE else CALLS
    layout = layout_of(layout, family)
    elbo = elbo_of(label, layout, num_particles=PARTICLES)
    samples = layout_gradients(elbo, layout, calls)
    assert_mean(samples, layout.exact_gradient())


PAIRED = ("ScoreFunction", "LeaveOneOut", "DisARM", "REBAR", "LocalExpectation", "Enumeration")


@pytest.mark.parametrize("layout", ["hierarchy", "nested_plates"])
@pytest.mark.parametrize("second", one_in(3, PAIRED, 2))
@pytest.mark.parametrize("first", PAIRED)
def test_mean_with_two_estimators(first, second, layout):
    layout = layout_of(layout, "Bernoulli-event")
    estimators = dict(zip(layout.sites, (REGISTRY[first].make(), REGISTRY[second].make()), strict=True))
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=PARTICLES)
    assert_mean(layout_gradients(elbo, layout, CALLS), layout.exact_gradient())


@pytest.mark.parametrize("label", one_in(2, ["ScoreFunction", "LeaveOneOut", "REBAR", "DisARM"], 1))
def test_mean_with_few_particles(label):
    layout = layout_of("hierarchy", "Bernoulli-event")
    elbo = elbo_of(label, layout, num_particles=REGISTRY[label].num_particles)
    samples = layout_gradients(elbo, layout, 600)
    assert_mean(samples, layout.exact_gradient())
