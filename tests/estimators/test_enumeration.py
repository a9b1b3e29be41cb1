import pyro
import pytest
import torch

import pyro_reparam_ext as pre

from ..families import BERNOULLI, BINOMIAL, CATEGORICAL, ONE_HOT
from ..registry import layout_of
from ..sampling import layout_gradients

SMALL = ("Bernoulli", "Categorical", "BetaBinomial")


@pytest.mark.parametrize("layout", ["no_plate", "plate", "nested_plates", "hierarchy"])
@pytest.mark.parametrize(
    ("family", "vectorize"),
    [(family, True) for family in BERNOULLI + ONE_HOT + CATEGORICAL + BINOMIAL]
    + [(family, False) for family in SMALL],
)
def test_equals_brute_force(family, layout, vectorize):
    layout = layout_of(layout, family)
    elbo = pre.TraceEstimator_ELBO(pre.Enumeration(), vectorize_particles=vectorize)
    actual = layout_gradients(elbo, layout, 1)[0]
    torch.testing.assert_close(actual, layout.exact_gradient(), rtol=1e-5, atol=1e-7)


def test_loss_equals_loss_without_gradient():
    layout = layout_of("hierarchy", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO(pre.Enumeration())
    loss = elbo.loss(layout.model, layout.guide)
    assert loss == pytest.approx(layout.exact_gradient()[0].item(), rel=1e-8)
    assert all(pyro.param(name).grad is None for name in layout.initial)
