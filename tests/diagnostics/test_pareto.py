"""The tail of weights."""

import numpy as np
import pytest

from pyro_reparam_ext.diagnostics.pareto import smoothed_weights, tail_shapes, threshold

from ..statistics import assert_z

DRAWS = 10_000


@pytest.mark.parametrize("shape", [0.3, 0.6, 1.2])
def test_the_shape_of_a_pareto_tail(shape):
    log_weights = -shape * np.log(np.random.default_rng(1).uniform(size=DRAWS))
    error = (1 + shape) / (3 * DRAWS**0.5) ** 0.5
    assert_z((float(tail_shapes(log_weights)) - shape) / error)


def test_columns_are_fitted_one_by_one():
    log_weights = np.random.default_rng(1).normal(size=(500, 2, 3))
    shapes = tail_shapes(log_weights)
    assert shapes.shape == (2, 3)
    assert shapes[1, 2] == tail_shapes(log_weights[:, 1, 2])
    weights = smoothed_weights(log_weights)
    assert weights.shape == log_weights.shape
    assert np.allclose(weights.sum(0), 1)


@pytest.mark.parametrize("size", [0.0, 1.0, -1000.0])
def test_weights_that_are_all_the_same_have_no_tail(size):
    log_weights = np.full(1000, size) + 1e-8 * np.random.default_rng(1).normal(size=1000)
    assert tail_shapes(log_weights) == -np.inf
    assert np.allclose(smoothed_weights(log_weights), 1e-3)


def test_few_values_have_no_tail_if_the_largest_is_met_often():
    often = np.where(np.arange(1000) < 300, 2.0, 0.0)
    assert tail_shapes(often) == -np.inf
    assert smoothed_weights(often).sum() == pytest.approx(1)
    assert smoothed_weights(often)[0] / smoothed_weights(often)[-1] == pytest.approx(np.exp(2.0))


def test_the_limit_grows_with_the_draws():
    assert threshold(100) == pytest.approx(0.5)
    assert threshold(1000) == pytest.approx(2 / 3)
    assert threshold(10_000) == 0.7


@pytest.mark.parametrize("seed", range(4))
def test_ties_in_the_tail_are_fitted(seed):
    """Weights of a few discrete values, whose largest is met less often than the tail is long."""
    coins = np.random.default_rng(seed).random((4000, 3)) < 0.3
    assert np.isfinite(tail_shapes(coins.sum(1)[:, None])).all()
