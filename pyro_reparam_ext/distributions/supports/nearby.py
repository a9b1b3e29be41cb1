"""Manifolds, as wide as single precision rounds: a density off them is zero, but not beside them.

A value that was computed in float32 and is given as float64 is off a manifold by the rounding of the
former. The constraints of torch and of Pyro, which validation goes by, refuse it; a density does not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

LEAST = 1e-6
"""The least tolerance, as that of ``torch.distributions.constraints.simplex``."""


class _Sphere(constraints.Constraint):
    """Vectors of length 1."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        error = (torch.linalg.vector_norm(value.detach(), dim=-1) - 1).abs()
        return error <= tolerance(value, value.shape[-1] ** 0.5)


class _CorrelationCholesky(constraints.Constraint):
    """Lower triangular matrices of a positive diagonal, whose rows have length 1."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        lower = (value.triu(1) == 0).flatten(-2).all(-1)
        positive = (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)
        return lower & positive & _Sphere().check(value).all(-1)


class _PositiveDefinite(constraints.Constraint):
    """Symmetric matrices that have a Cholesky factor; in one graph, unlike torch's own."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        value = value.detach()
        apart, largest = ((x.abs().amax((-2, -1))) for x in (value - value.mT, value))
        symmetric = apart <= LEAST + max(10 * LEAST, torch.finfo(value.dtype).eps) * largest
        value = value.float() if value.element_size() == 2 else value  # in which torch has none
        return symmetric & (torch.linalg.cholesky_ex(value).info == 0)


def tolerance(value: Tensor, count: float) -> float:
    """The tolerance of a sum of so many numbers."""
    return max(LEAST, 10 * count * torch.finfo(value.dtype).eps)


near_sphere: Any = _Sphere()
near_corr_cholesky: Any = _CorrelationCholesky()
near_positive_definite: Any = _PositiveDefinite()
