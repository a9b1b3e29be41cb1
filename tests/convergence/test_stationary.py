"""R-hat, effective sample size and the average of iterates."""

import pytest
import torch

from pyro_reparam_ext.convergence.stationary import average, most_stationary, typical_rhat

from ..statistics import assert_mean, assert_p
from .traces import stationary


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_error_is_that_of_an_autoregression(memory):
    """The mean of n values has variance (1 + memory) / (1 - memory) / n, nearly."""
    x = stationary(4000, 200, memory, torch.Generator().manual_seed(0)).double()
    found = average(x)
    exact = ((1 + memory) / (1 - memory) / len(x)) ** 0.5
    assert abs(found.error.square().mean().sqrt() / exact - 1) < 0.1
    torch.testing.assert_close(found.spread, x.std(0))
    assert_mean((found.mean / exact)[:, None], torch.zeros(1))
    from scipy import stats

    assert_p(stats.chi2(200).sf((found.mean / exact).square().sum().item() / 1.1))


@pytest.mark.parametrize("coordinates", [1, 30])
def test_half_of_stationary_iterates_have_a_larger_rhat(coordinates):
    from scipy import stats

    x = stationary(1000, 300 * coordinates, 0.0, torch.Generator().manual_seed(1))
    largest = torch.stack([most_stationary(part, [0])[1].max() for part in x.split(coordinates, 1)])
    above = int((largest > typical_rhat(coordinates)).sum())
    assert_p(stats.binomtest(above, 300, 0.5).pvalue)


def test_a_fall_is_seen_that_is_far_below_the_noise():
    x = stationary(10_000, 1, 0.0, torch.Generator().manual_seed(0))
    x += torch.linspace(0.3, 0, 10_000)[:, None]
    assert most_stationary(x, [0])[1] > 1.1


def test_the_window_leaves_out_the_fall():
    x = stationary(1000, 3, 0.5, torch.Generator().manual_seed(0))
    x[:300] += torch.linspace(20, 0, 300)[:, None]
    assert most_stationary(x, [0, 150, 350])[0] == 350


def test_what_does_not_move_is_known():
    x = stationary(1000, 2, 0.5, torch.Generator().manual_seed(0))
    x[:, 1] = 3.0
    rhat, found = most_stationary(x, [0])[1], average(x)
    assert rhat[1] == 0.0
    assert found.error[1] == 0.0
    assert found.mean[1] == 3.0
    assert torch.isfinite(found.error).all()
