import numpy as np
import torch
from scipy import stats

from pyro_reparam_ext.study.moments import Moments, reference_of

from ..statistics import assert_p


def moments_of(draws, chunks=(700, 300)):
    moments = Moments()
    for part in torch.as_tensor(draws).split(list(chunks)):
        moments.add({"w": part})
    return moments


def test_chunks_add_up_to_the_whole():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (1000, 4, 2))
    moments = moments_of(draws)
    np.testing.assert_allclose(moments.mean["w"], draws.mean(0))
    np.testing.assert_allclose(moments.flat_variance(["w"]), draws.var(0, ddof=1).ravel())


def test_interval_of_the_variance_covers_it_as_often_as_it_says():
    generator, covered = np.random.default_rng(1), 0
    for _ in range(400):
        _, low, high = moments_of(generator.normal(size=(400, 3)), (300, 100)).variance(["w"])
        covered += low <= 3.0 <= high
    assert_p(stats.binomtest(covered, 400, 0.95).pvalue)


def test_pooled_reference_weighs_by_precision():
    generator = np.random.default_rng(4)
    precise = moments_of(1 + 0.1 * generator.normal(size=(1000, 2)))
    noisy = moments_of(2 + 10 * generator.normal(size=(1000, 2)))
    pooled = reference_of([precise, noisy], ["w"])
    np.testing.assert_allclose(pooled.mean, precise.flat_mean(["w"]), atol=2e-3)
    exact = Moments()
    exact.add({"w": torch.ones(1, 2)})
    np.testing.assert_array_equal(reference_of([exact, noisy], ["w"]).mean, np.ones(2))


def test_components_along_a_direction_are_kept_in_chunks():
    generator = np.random.default_rng(5)
    draws, direction = generator.normal(1.0, 2.0, (1000, 3)), generator.normal(size=3)
    moments = Moments({"w": torch.tensor(direction)})
    for part in torch.tensor(draws).split((700, 300)):
        moments.add({"w": part})
    groups, components = moments.groups(["w"]), draws @ direction
    np.testing.assert_allclose(groups.mean, [components.mean()] * 2)
    np.testing.assert_allclose(groups.error, [components.var(ddof=1) / 1000] * 2)


def test_reach_is_that_of_the_largest_deviation_in_the_parameter():
    """Of coordinates that vary little, too: they may be those of classes that were not drawn."""
    draws = torch.zeros(100, 20)
    draws[::2, 0], draws[:, 1] = 1.0, torch.linspace(0, 1e-3, 100)
    for sizes in ([100], [30, 70], [1] * 100):
        moments = moments_of(draws, sizes)
        reach = moments.coordinates(["w"]).reach
        assert (reach == reach[0]).all()  # effective number of draws: all
        assert 0.5 * 1.5 / 100 * 0.99 < reach[0] < (1.5 if len(sizes) < 9 else 4.0) * 1.5 / 100


def test_reach_is_unknown_where_no_two_draws_differ():
    assert np.isnan(moments_of(torch.ones(1000, 3)).coordinates(["w"]).reach).all()
    exact = Moments(deterministic=True)
    exact.add({"w": torch.ones(1000, 3)})
    assert (exact.coordinates(["w"]).reach == 0).all()


def test_few_draws_that_make_up_the_variance_reach_further():
    draws = torch.zeros(1000, 20)
    draws[0] = 1.0
    assert moments_of(draws).coordinates(["w"]).reach[0] > 30 * draws.max() / 1000
