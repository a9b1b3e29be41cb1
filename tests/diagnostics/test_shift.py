"""How weights move means and sds: draws of a standard normal, weighed as another."""

import numpy as np
from scipy import stats

from pyro_reparam_ext.diagnostics.shift import shift

from ..statistics import assert_z


def weighed(mean, sd, draws=20_000):
    """Draws of a normal of sd 2 with the weights of another, and draws that these leave alone."""
    u = np.random.default_rng(1).normal(size=(draws, 2))
    log_weights = u[:, 0] ** 2 / 2 - ((u[:, 0] - mean) / sd) ** 2 / 2
    weights = np.exp(log_weights)[:, None]
    return shift(5 + 2 * u, weights / weights.sum())


def test_the_shift_of_a_normal():
    mean, sd = -0.3, 0.8
    found = weighed(mean, sd)
    assert_z((found.mean[0] - mean) / found.mean_error[0])
    assert_z((found.log_ratio[0] - np.log(sd)) / found.log_ratio_error[0])
    assert_z(found.mean[1] / found.mean_error[1])
    assert found.distance[0] > found.distance[1]


def test_constant_draws_are_not_moved():
    found = shift(np.full((100, 1), 0.1), np.full((100, 1), 0.01))
    assert np.isnan(found.mean[0]) and found.distance[0] == 0


def test_the_distance_of_distribution_functions():
    """Of draws of a normal of sd 2 that are weighed as two modes with the same mean and sd."""
    x = np.random.default_rng(2).normal(size=(20_000, 1)) * 2
    both = stats.norm.pdf(x, -1.8, 0.87) + stats.norm.pdf(x, 1.8, 0.87)
    weights = both / 2 / stats.norm.pdf(x, 0, 2)
    found = shift(x, weights / weights.sum())
    grid = np.linspace(-8, 8, 10_001)
    cdf = (stats.norm.cdf(grid, -1.8, 0.87) + stats.norm.cdf(grid, 1.8, 0.87)) / 2
    exact = np.abs(cdf - stats.norm.cdf(grid, 0, 2)).max()
    assert_z((found.cdf[0] - exact) / found.cdf_error[0])
    assert abs(found.mean[0]) < 0.05 and abs(found.log_ratio[0]) < 0.05
    assert found.distance[0] > 0.1


def test_the_distance_of_values_that_are_often_equal():
    ones = np.repeat([0.0, 1.0], [600, 400])[:, None]
    weights = np.repeat([0.25 / 600, 0.75 / 400], [600, 400])[:, None]
    assert np.isclose(shift(ones, weights).cdf[0], 0.6 - 0.25)
