"""Gauss-Legendre nodes."""

import pytest

from pyro_reparam_ext.numerics.quadrature import gauss_legendre


def test_integrates_polynomials():
    nodes, weights = gauss_legendre(5)
    assert sum(w * x**9 for x, w in zip(nodes, weights, strict=True)) == pytest.approx(0.1, rel=1e-12)
