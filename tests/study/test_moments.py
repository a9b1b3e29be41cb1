import numpy as np
import pytest
import torch
from scipy import stats

from pyro_reparam_ext.study.moments import Moments, Reference, bias, reference_of

ZERO = Reference(np.zeros(50), np.zeros(50), np.inf)


def moments_of(draws, chunks=(700, 300)):
    moments = Moments()
    for part in torch.tensor(draws).split(chunks):
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
    assert stats.binomtest(covered, 400, 0.95).pvalue > 1e-6


@pytest.mark.parametrize("draws", [10, 1000])
def test_z_score_of_no_bias_is_calibrated(draws):
    generator, scores = np.random.default_rng(2), []
    for _ in range(300):
        sample = generator.normal(size=(draws, 50))
        scores.append(bias(moments_of(sample, (4, draws - 4)), ZERO, ["w"])[1])
    assert stats.binomtest(int(np.sum(np.array(scores) > 1.96)), 300, 0.05).pvalue > 1e-6


def test_bias_is_the_norm_without_sampling_error():
    generator = np.random.default_rng(3)
    shift = np.full(50, 0.5)
    size, z = bias(moments_of(shift + generator.normal(size=(1000, 50))), ZERO, ["w"])
    assert size == pytest.approx(np.linalg.norm(shift), rel=0.03)
    assert z > 10


def test_pooled_reference_weighs_by_precision():
    generator = np.random.default_rng(4)
    precise = moments_of(1 + 0.1 * generator.normal(size=(1000, 2)))
    noisy = moments_of(2 + 10 * generator.normal(size=(1000, 2)))
    pooled = reference_of([precise, noisy], ["w"])
    np.testing.assert_allclose(pooled.mean, precise.flat_mean(["w"]), atol=2e-3)
    exact = Moments()
    exact.add({"w": torch.ones(1, 2)})
    np.testing.assert_array_equal(reference_of([exact, noisy], ["w"]).mean, np.ones(2))
