"""Sinkhorn's normalisation, in log space."""

from __future__ import annotations

from torch import Tensor


def sinkhorn(log_matrix: Tensor, num_iterations: int) -> Tensor:
    """The logarithm of a doubly stochastic matrix, by scaling columns and rows in turn.

    Args:
        log_matrix: logarithms of the entries, of shape (..., n, n).
        num_iterations: how often columns and rows are scaled, 1 or more.

    Returns:
        A tensor of the same shape. Its rows are normalised to rounding, its columns to what the
        iterations give: better by a constant factor with each, which is nearer to 1 the more the
        entries differ.

    References:
        Sinkhorn, *A Relationship Between Arbitrary Positive Matrices and Doubly Stochastic Matrices*,
        1964, https://doi.org/10.1214/aoms/1177703591.

    Example:
        >>> import torch
        >>> from pyro_reparam_ext.numerics.sinkhorn import sinkhorn
        >>> print(sinkhorn(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), 10).exp())
        tensor([[0.2689, 0.7311],
                [0.7311, 0.2689]])
    """
    for _ in range(num_iterations):
        log_matrix = log_matrix.log_softmax(-2)
        log_matrix = log_matrix.log_softmax(-1)
    return log_matrix
