import pyro
import pytest
import torch

import pyro_reparam_ext as pre

from ..registry import layout_of
from ..sampling import layout_gradients


@pytest.mark.parametrize("family", ["Bernoulli", "OneHotCategorical", "Categorical", "BetaBinomial"])
def test_exact_over_a_single_coordinate(family):
    layout = layout_of("plate", family)
    elbo = pre.TraceEstimator_ELBO(pre.LocalExpectation())
    exact = layout.exact_gradient()
    sizes = torch.tensor([value.numel() for value in layout.initial.values()])
    guide = slice(1, 1 + int(sizes[:2].sum()))  # phi and local come first
    actual = layout_gradients(elbo, layout, 2)
    torch.testing.assert_close(actual[0, guide], exact[guide], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(actual[1, guide], exact[guide], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("layout", ["hierarchy", "pathwise_upstream"])
def test_chunks_change_nothing(chunk, layout):
    layout = layout_of(layout, "Categorical-event")
    rows = []
    for estimator in (pre.LocalExpectation(), pre.LocalExpectation(chunk)):
        pyro.clear_param_store()
        torch.manual_seed(2)
        estimators = {layout.sites[-1]: estimator}
        rows.append(layout_gradients(pre.TraceEstimator_ELBO(estimators), layout, 1))
    torch.testing.assert_close(*rows)
