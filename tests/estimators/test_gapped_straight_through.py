import pytest
import torch

import pyro_reparam_ext as pre

from .hard import LOGITS, bernoulli_slope, far_towards, one_hot_jacobian, slope_of_softmax


@pytest.mark.parametrize("temperature, gap", [(0.5, 1.0), (1.0, 0.2), (0.7, 3.0)])
@pytest.mark.parametrize("index", range(4))
def test_formula(index, temperature, gap):
    """Logits moved class by class: the drawn one up to the largest, others a gap below it."""
    top = LOGITS.max().item()
    moved = torch.tensor(
        [top if k == index else min(x, top - gap) for k, x in enumerate(LOGITS.tolist())],
        dtype=torch.float64,
    )
    assert moved.argmax() == index
    expected = slope_of_softmax((moved / temperature).softmax(-1)) / temperature
    found = one_hot_jacobian(pre.GappedStraightThrough(temperature, gap), far_towards(index))
    torch.testing.assert_close(found, expected)


def test_formula_of_a_bernoulli_variable():
    logits = torch.tensor([-2.0, -0.3, 0.6, 1.7], dtype=torch.float64)
    for noise, moved in ((9.0, [1.0, 1.0, 1.0, 1.7]), (-9.0, [-2.0, -1.0, -1.0, -1.0])):
        p = (torch.tensor(moved, dtype=torch.float64) / 0.5).sigmoid()
        found = bernoulli_slope(pre.GappedStraightThrough(0.5), logits, torch.full_like(logits, noise))
        torch.testing.assert_close(found, p * (1 - p) / 0.5)


@pytest.mark.parametrize("gap", [0.0, -1.0])
def test_no_gap(gap):
    with pytest.raises(pre.EstimatorError, match="GappedStraightThrough: gap must be positive"):
        pre.GappedStraightThrough(0.5, gap)
