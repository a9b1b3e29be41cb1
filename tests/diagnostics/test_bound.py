"""ELBO and importance-weighted bound of weights whose law is known."""

import numpy as np
import pytest

from pyro_reparam_ext.diagnostics.bound import bound

from ..statistics import assert_z


def test_gaussians_of_different_means():
    """The weights of N(m, 1) for draws of N(0, 1), times an evidence of e^3."""
    m, z = 0.5, np.random.default_rng(1).normal(size=20_000)
    found = bound(3 + m * z - m**2 / 2)
    assert_z((found.elbo - (3 - m**2 / 2)) / found.elbo_error)
    assert_z((found.gap - m**2 / 2) / found.gap_error)
    assert found.elbo_error == pytest.approx(m / 20_000**0.5, rel=0.05)


def test_the_error_of_the_gap_is_its_scatter():
    rng = np.random.default_rng(1)
    found = [bound(0.5 * rng.normal(size=1000)) for _ in range(200)]
    scatter = np.std([f.gap for f in found])
    assert np.mean([f.gap_error for f in found]) == pytest.approx(scatter, rel=0.2)


def test_equal_weights_have_no_gap():
    found = bound(np.full(100, -700.0))
    assert (found.elbo, found.gap, found.gap_error) == (-700, 0, 0)
