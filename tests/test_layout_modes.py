"""Broadcast, vmap and loop give the same estimate: every estimator, in every layout."""

import pyro
import pytest
import torch

import pyro_reparam_ext as pre

from .layouts import ALONE, LAYOUTS
from .registry import REGISTRY, layout_of
from .sampling import layout_gradients
from .slow import one_in
from .statistics import assert_mean

CHOSEN = (
    *("Bernoulli-event", "OneHotCategorical", "Categorical", "Normal", "Binomial-event", "Mixture"),
    "Subset",
)
"""Values that are vectors, indices, continuous, counts."""
SAME_DRAWS = (
    *("Pathwise", "ScoreFunction", "ScoreFunction-ema", "ScoreFunction-network", "GaussHermite"),
    *("GumbelSoftmax-relaxed", "GumbelSoftmax-discrete"),
    *("StraightThrough", "StraightThroughGumbelSoftmax", "GumbelRao", "GappedStraightThrough"),
    *("ReinMax", "DecoupledStraightThrough", "SIMPLE"),
)
"""Estimators that draw in a loop of one particle what they draw in one run."""
CALLS = 50
SKEWED = {("Combine-slopes", "hierarchy"): 20, ("LeaveOneOut-shrinkage", "subsampled_plate"): 20}
"""How many times as many calls where so few of them say most that their mean is not normal."""


def all_cases():
    """Each estimator in each layout, with one of its families in turn."""
    found = []
    for label, entry in REGISTRY.items():
        families = [name for name in CHOSEN if name in entry.families]
        for layout in LAYOUTS:
            if LAYOUTS[layout].inside or not entry.inside_only:
                found.append((label, families[len(found) % len(families)], layout))
    return found


CASES = all_cases()
IN_A_LOOP = [case for case in CASES if case[0] not in SAME_DRAWS][::2]
"""Every other one: layouts take turns."""


def estimates(label, layout, mode, num_particles, calls=2):
    """Losses and gradients of some calls, from one seed."""
    pyro.clear_param_store()
    layout.current()
    estimators = {site: REGISTRY[label].make() for site in layout.sites}
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=num_particles, vectorize_particles=mode)
    torch.manual_seed(3)
    return layout_gradients(elbo, layout, calls)


def with_particles():
    """Each case with one particle and with three, which take turns to be the quick one."""
    return [(*case, n) for turn, case in enumerate(CASES) for n in ((1, 3), (3, 1))[turn % 2]]


@pytest.mark.parametrize(("label", "family", "layout", "num_particles"), one_in(2, with_particles()))
def test_vmap_is_broadcasting(label, family, layout, num_particles):
    num_particles = max(num_particles, REGISTRY[label].num_particles)
    visible, hidden = (
        estimates(label, layout_of(layout, family), mode, num_particles) for mode in (True, "vmap")
    )
    torch.testing.assert_close(hidden, visible, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("label", "family", "layout"), [c for c in CASES if c[0] in SAME_DRAWS])
def test_loop_is_broadcasting(label, family, layout):
    visible, looped = (estimates(label, layout_of(layout, family), mode, 1) for mode in (True, False))
    torch.testing.assert_close(looped, visible, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("label", "family", "layout"), one_in(2, IN_A_LOOP))
def test_mean_in_a_loop(label, family, layout):
    calls = 2 if REGISTRY[label].exact and layout in ALONE else CALLS
    name, layout = layout, layout_of(layout, family)
    calls *= SKEWED.get((label, name), 1)
    samples = estimates(label, layout, False, REGISTRY[label].num_particles, calls)
    assert_mean(samples, layout.exact_gradient())


@pytest.mark.parametrize("label", one_in(3, (label for label in REGISTRY if label not in SAME_DRAWS)))
def test_mean_in_a_loop_of_particles(label):
    layout = layout_of("pathwise_downstream", REGISTRY[label].families[0])
    assert_mean(estimates(label, layout, False, 3, CALLS), layout.exact_gradient())
