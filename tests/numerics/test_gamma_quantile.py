"""Quantiles of Gamma variables, from tiny to huge concentrations."""

import numpy as np
import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.gamma_quantile import gamma_noise, log_gamma_quantile

CONCENTRATIONS = torch.tensor([1e-3, 0.05, 0.3, 0.9, 1.0, 2.5, 30.0, 1e3, 1e6, 1e8])
NOISE = torch.tensor([-8.0, -5.0, -2.0, -0.5, 0.0, 0.1, 1.0, 3.0, 5.0, 7.0])
EPSILON, A = torch.meshgrid(NOISE.double(), CONCENTRATIONS.double(), indexing="ij")


def test_against_scipy():
    inside = (A >= 0.05) & (A < 1e7)
    y = log_gamma_quantile(EPSILON, A)[inside].exp()
    e, a = EPSILON[inside].numpy(), A[inside].numpy()
    upper = special.gammainccinv(a, special.ndtr(-e))
    exact = np.where(e > 0, upper, special.gammaincinv(a, special.ndtr(e)))
    torch.testing.assert_close(y, torch.tensor(exact), rtol=1e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(dtype):
    y = log_gamma_quantile(EPSILON.to(dtype), A.to(dtype))
    assert y.dtype == dtype and y.isfinite().all()
    tolerance = 1e-4 if dtype == torch.float64 else 2e-3
    precise = A * torch.finfo(dtype).eps ** 2 < 1e-8  # else a float doesn't tell the noise
    back = gamma_noise(y, A.to(dtype)).double()
    torch.testing.assert_close(back[precise], EPSILON[precise], rtol=tolerance, atol=tolerance)


def test_of_a_value_that_stands_for_all_below():
    """The noise is that of the true values: uniform below the probability of the bound."""
    a, bound = torch.tensor(0.01, dtype=torch.float64), torch.tensor(-80.0, dtype=torch.float64)
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    noise = gamma_noise(bound, a, u)
    below = special.gammainc(0.01, np.exp(-80.0)) * u.numpy()
    torch.testing.assert_close(torch.special.ndtr(noise), torch.tensor(below), rtol=1e-6, atol=0)
