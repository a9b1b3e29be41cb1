"""Every unbiased estimator, at every distribution it serves, in every layout."""

import pyro_reparam_ext as pre
import pytest

from .registry import REGISTRY, cases, layout_of
from .sampling import layout_gradients
from .statistics import assert_mean

PARTICLES, CALLS = 300, 25


def elbo_of(label, layout, **options):
    estimators = {site: REGISTRY[label].make() for site in layout.sites}
    return pre.TraceEstimator_ELBO(estimators, **options)


@pytest.mark.parametrize(("label", "family", "layout"), cases())
def test_mean_of_gradient(label, family, layout):
    layout = layout_of(layout, family)
    elbo = elbo_of(label, layout, num_particles=PARTICLES)
    samples = layout_gradients(elbo, layout, CALLS)
    assert_mean(samples, layout.exact_gradient())
