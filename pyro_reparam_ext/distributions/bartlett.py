"""Triangular factors of a random Gram matrix, and the matrix of a factor."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor

from ..numerics.shapes import broadcast_shapes
from .log_gamma import LogGamma


def bartlett(
    df: Tensor, dim: int, sample_shape: Size, ascending: bool = False
) -> tuple[Tensor, Tensor]:
    r"""A lower triangular :math:`A` with :math:`A A^\top \sim W_p(\nu, I)` (Bartlett, 1933).

    Its squared diagonal is chi-squared with :math:`\nu, \nu - 1, \ldots` degrees of freedom, what is
    below it normal. With ``ascending`` degrees of freedom it is :math:`A^\top A` that has this law.

    Args:
        df: more than ``dim`` - 1.
        dim: of the matrix.
        sample_shape: to the left of the shape of ``df``.

    Returns:
        The logarithm of the diagonal, and what is below it.
    """
    steps = torch.arange(dim, dtype=df.dtype, device=df.device)
    degrees = df[..., None] - (steps.flip(0) if ascending else steps)
    log_square = LogGamma(0.5 * degrees, 0.5, validate_args=False).rsample(sample_shape)
    # So that the square of its inverse stays finite, and so does what multiplies it.
    floor = math.log(torch.finfo(df.dtype).tiny) / 4
    noise = torch.randn(sample_shape + df.shape + (dim, dim), dtype=df.dtype, device=df.device)
    return (0.5 * log_square).clamp(min=floor), noise.tril(-1)


def gram(factor: Tensor) -> Tensor:
    r""":math:`F F^\top` for a lower triangular factor, symmetric and positive definite in the dtype.

    The diagonal grows by some units of its rounding, by which what is singular has a Cholesky factor.
    """
    dim, eps = factor.shape[-1], torch.finfo(factor.dtype).eps
    product = factor @ factor.mT
    ridge = torch.eye(dim, dtype=factor.dtype, device=factor.device) * ((4 + 0.5 * dim) * eps)
    return 0.5 * (product + product.mT) * (1 + ridge)


def cholesky_of(value: Tensor) -> Tensor:
    """The Cholesky factor of a value, NaN where it has none."""
    factor, info = torch.linalg.cholesky_ex(value)
    return torch.where((info == 0)[..., None, None], factor, torch.nan)


def log_det(factor: Tensor) -> Tensor:
    """The log determinant of the matrix with this Cholesky factor."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def square_norm_of_solution(factor: Tensor, other: Tensor) -> Tensor:
    r"""The trace of :math:`(F F^\top)^{-1} G G^\top` for Cholesky factors F and G."""
    batch = broadcast_shapes(factor.shape, other.shape)
    solution = torch.linalg.solve_triangular(factor.expand(batch), other.expand(batch), upper=False)
    return solution.square().sum((-2, -1))


def only_given(given: dict[str, Tensor | None]) -> tuple[str, Tensor]:
    """The one that is not None."""
    found = [(name, x) for name, x in given.items() if x is not None]
    if len(found) != 1:
        raise ValueError(f"Exactly one of {', '.join(given)} has to be given, not {len(found)}.")
    name, matrix = found[0]
    if matrix.dim() < 2:
        raise ValueError(f"{name} has to be a matrix, or a batch of them: shape {tuple(matrix.shape)}.")
    return name, matrix
