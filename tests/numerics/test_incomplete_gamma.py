"""The incomplete gamma functions where torch's series end too early."""

import math

import pytest
import torch

from pyro_reparam_ext.numerics.incomplete_gamma import LARGE, gamma_tail, gammainc, gammaincc

from . import exact_tails

DEVIATIONS = (-30.0, -6.0, -1.0, -0.003, 0.003, 0.4, 5.0, 30.0)


@pytest.mark.parametrize("concentration", [1.1e5, 1e7, 1e9])
def test_both_tails_of_large_concentrations(concentration):
    """The smaller one to its own precision; torch is 30 percent off from five deviations on."""
    a = torch.tensor(concentration, dtype=torch.float64)
    for z in DEVIATIONS:
        x = a * (1 - 1 / (9 * a) + z / (3 * math.sqrt(concentration))) ** 3
        upper = z > 0
        ours = (gammaincc if upper else gammainc)(a, x).item()
        exact = float(exact_tails.gamma_tail(concentration, x.item(), upper=upper))
        assert ours == pytest.approx(exact, rel=1e-9, abs=0)


def test_one_or_the_other():
    a = torch.tensor([0.3, 7.0, 90.0, 1e6, 2e8], dtype=torch.float64)
    x = a * torch.tensor([0.5, 1.2, 0.9, 1.001, 0.9999], dtype=torch.float64)
    for upper in (False, True):
        found = gamma_tail(a, x, torch.full_like(a, upper, dtype=torch.bool))
        torch.testing.assert_close(found, (gammaincc if upper else gammainc)(a, x), rtol=0, atol=0)
    torch.testing.assert_close(gammainc(a, x) + gammaincc(a, x), torch.ones_like(a))


def test_torch_below():
    a = torch.tensor([0.01, 3.0, LARGE], dtype=torch.float64)
    x = torch.tensor([0.1, 50.0, 1.01e5], dtype=torch.float64)
    assert torch.equal(gammainc(a, x), torch.special.gammainc(a, x))
    assert torch.equal(gammaincc(a, x), torch.special.gammaincc(a, x))


def test_far_from_the_mean():
    a = torch.tensor([1e6, 1e6, 1e6], dtype=torch.float64)
    x = torch.tensor([0.0, 1.0, math.inf], dtype=torch.float64)
    assert gammainc(a, x).tolist() == [0.0, 0.0, 1.0]
    assert gammaincc(a, x).tolist() == [1.0, 1.0, 0.0]
