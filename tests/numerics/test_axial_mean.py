"""The mean logarithm of a cosine, against closed forms and mpmath."""

import math

import pytest
import torch

from pyro_reparam_ext.numerics.axial_mean import mean_log_cosine2

DIMS = [2, 3, 4, 5, 6, 9, 50]
MPMATH = {
    (2, 1.5, 0.9): -0.446479212688,
    (2, 20.0, 0.3): -1.296316474817,
    (3, 1.5, 0.3): -1.2478639604380972,
    (4, 1.5, 0.9): -0.5428174168670251,
    (5, 1.5, 0.3): -0.9690850190435345,
    (6, 1.5, 0.9): -0.5874018224173,
    (9, 1.5, 0.3): -0.8308373019077047,
}
"""By dim, concentration and squared cosine, nested quadrature with 20 digits."""


def double(*numbers):
    return [torch.tensor(x, dtype=torch.float64) for x in numbers]


@pytest.mark.parametrize(("dim", "concentration", "cosine2"), MPMATH)
def test_against_mpmath(dim, concentration, cosine2):
    found = mean_log_cosine2(dim, *double(0.5 * (dim - 1) + concentration, cosine2))
    assert found.item() == pytest.approx(MPMATH[dim, concentration, cosine2], rel=1e-11)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("concentration", [0.0, 3.0, 1e4])
def test_of_the_same_axis(dim, concentration):
    """The mean of the logarithm of a Beta variable."""
    beta = 0.5 * (dim - 1)
    alpha, total = double(beta + concentration, 2 * beta + concentration)
    exact = torch.digamma(alpha) - torch.digamma(total)
    found = mean_log_cosine2(dim, alpha, torch.ones_like(alpha))
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dim", DIMS)
def test_of_a_uniform_direction_any_axis_is_the_same(dim):
    (alpha,) = double(0.5 * (dim - 1))
    cosine2 = torch.tensor([0.0, 0.2, 0.5, 1 - 1e-9], dtype=torch.float64)
    exact = torch.digamma(alpha) - torch.digamma(2 * alpha)
    found = mean_log_cosine2(dim, alpha, cosine2)
    torch.testing.assert_close(found, exact.expand(4), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 4, 6, 50])
def test_derivatives(dim):
    alpha, cosine2 = double(0.5 * (dim - 1) + 2.0, 0.4)
    arguments = alpha.requires_grad_(), cosine2.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, c: mean_log_cosine2(dim, a, c), arguments)


def test_single_precision():
    alpha, cosine2 = torch.tensor([1.0, 50.0]), torch.tensor([0.3, 0.999])
    found = mean_log_cosine2(3, alpha, cosine2)
    exact = mean_log_cosine2(3, alpha.double(), cosine2.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
    assert math.isfinite(mean_log_cosine2(2, alpha[0], torch.zeros(())).item())
