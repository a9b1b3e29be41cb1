"""Draws of different ones with known probabilities, over all values of the one uniform number."""

import pytest
import torch

from pyro_reparam_ext.numerics.systematic_sampling import drawn_at, inclusion_probabilities

WEIGHTS = torch.tensor(
    [[1.0, 1.0, 1.0, 1.0, 1.0], [9.0, 3.0, 1.0, 0.5, 0.2], [0.0, 5.0, 0.0, 1e-6, 2.0]],
    dtype=torch.float64,
)
GRID = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_each_is_drawn_with_its_probability(count):
    probabilities = inclusion_probabilities(WEIGHTS, count)
    every = probabilities.expand(len(GRID), -1, -1)
    drawn = drawn_at(GRID[:, None].expand(-1, 3), every, count)
    assert drawn.sum(0).max() <= 1  # never twice
    torch.testing.assert_close(drawn.sum(0).double().mean(0), probabilities, rtol=0, atol=2e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_probabilities_are_proportional_up_to_one(count):
    probabilities = inclusion_probabilities(WEIGHTS, count)
    torch.testing.assert_close(probabilities.sum(-1), torch.full((3,), count, dtype=torch.float64))
    for p, w in zip(probabilities, WEIGHTS, strict=True):
        below = (p < 1) & (w > 0)
        ratio = p[below] / w[below]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
        assert (p[~below & (w > 0)] == 1).all() and (p[w == 0] == 0).all()


def test_what_has_no_weight_is_never_drawn():
    weights = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    probabilities = inclusion_probabilities(weights, 2)
    assert probabilities.tolist() == [[0.0] * 4, [0.0, 1.0, 0.0, 0.0]]
    drawn = drawn_at(torch.tensor([0.3, 0.3]), probabilities, 2)
    assert drawn.sum(0).tolist() == [[0] * 4, [0, 1, 0, 0]]
