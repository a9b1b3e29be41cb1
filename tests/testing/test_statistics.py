"""A p-value is small for a wrong mean, and no smaller than it may be for a right one."""

import re

import pytest
import torch

from pyro_reparam_ext.testing.statistics import likeness, p_value

EXACT = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)


def draws(mean):
    return mean + torch.randn(1000, 3, dtype=torch.float64)


def test_right_means_pass():
    assert min(p_value(draws(EXACT), EXACT) for _ in range(200)) > 1e-4


def test_a_wrong_mean_fails():
    assert p_value(draws(EXACT + 0.3), EXACT) < 1e-9


def test_a_class_that_no_draw_hits_passes():
    hits = torch.zeros(200, 2, dtype=torch.float64)
    hits[:20, 0] = 1.0
    assert p_value(hits, torch.tensor([0.1, 0.02], dtype=torch.float64)) > 1e-4


def test_without_variance_all_is_exact():
    same = EXACT.expand(10, 3)
    assert p_value(same, EXACT) == 1
    assert p_value(same, EXACT + 1e-3) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: -x, "wrong sign"),
        (lambda x: x / 2, "0.50 times .* missing factor"),
        (lambda x: 1.1 * x, "1.10 times .* wrong factor"),
        (lambda x: x + 0.5, "no simple multiple"),
    ],
)
def test_likeness(change, said):
    assert re.search(said, likeness(change(EXACT) + 0.01 * draws(0 * EXACT), EXACT))
