"""Nodes of Gauss quadrature."""

import pytest

from pyro_reparam_ext.numerics.quadrature import gauss_hermite, gauss_legendre


def test_integrates_polynomials():
    nodes, weights = gauss_legendre(5)
    assert sum(w * x**9 for x, w in zip(nodes, weights, strict=True)) == pytest.approx(0.1, rel=1e-12)


def test_moments_of_a_standard_normal():
    nodes, weights = gauss_hermite(5)
    moments = [sum(w * x**n for x, w in zip(nodes, weights, strict=True)) for n in range(10)]
    assert moments == pytest.approx([1, 0, 1, 0, 3, 0, 15, 0, 105, 0], rel=1e-12, abs=1e-12)
