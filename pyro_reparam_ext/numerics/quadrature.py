"""Nodes and weights of Gauss quadrature."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def gauss_legendre(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights on (0, 1), as numbers."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return tuple(0.5 * (nodes + 1)), tuple(0.5 * weights)


@cache
def gauss_hermite(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights for the mean of a function of a standard normal variable, as numbers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return tuple(nodes.tolist()), tuple((weights / weights.sum()).tolist())
