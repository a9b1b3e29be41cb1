"""Sinkhorn's normalisation."""

import torch

from pyro_reparam_ext.numerics.sinkhorn import sinkhorn


def test_two_by_two_limit():
    """The limit keeps the odds ratio a d / (b c), which says a 2 x 2 matrix."""
    log_matrix = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    odds = log_matrix[0, 0] + log_matrix[1, 1] - log_matrix[0, 1] - log_matrix[1, 0]
    expected = (odds / 2).sigmoid()
    matrix = sinkhorn(log_matrix, 60).exp()
    torch.testing.assert_close(matrix[0, 0], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(matrix.sum(-2), torch.ones(2, dtype=torch.float64))


def test_rows_are_normalised_last():
    log_matrix = torch.randn(50, 6, 6) * 30
    for iterations in (1, 3):
        matrix = sinkhorn(log_matrix, iterations).exp()
        torch.testing.assert_close(matrix.sum(-1), torch.ones(50, 6))
    assert (matrix.sum(-2) - 1).abs().max() > 1e-3


def test_more_iterations_bring_columns_closer():
    log_matrix = torch.randn(20, 5, 5, dtype=torch.float64)
    errors = [(sinkhorn(log_matrix, i).exp().sum(-2) - 1).abs().amax() for i in (1, 5, 25)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_scales_of_rows_and_columns_do_not_matter():
    log_matrix = torch.randn(4, 4, dtype=torch.float64)
    scaled = log_matrix + torch.randn(4, 1, dtype=torch.float64) + torch.randn(4, dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scaled, 100), sinkhorn(log_matrix, 100))
