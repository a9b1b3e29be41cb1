"""Tails by quadrature, against the normal distribution's."""

import math

import pytest
import torch
from scipy import stats

from pyro_reparam_ext.numerics.tail_integral import log_tail


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_normal(side):
    z = side * torch.tensor([0.0, 0.3, 1.0, 5.0, 20.0, 100.0], dtype=torch.float64)
    log_mass = log_tail(lambda z: -0.5 * z * z, z, torch.full_like(z, side), -z)
    exact = torch.as_tensor(stats.norm.logsf(z.abs().numpy()))
    constant = 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_mass - constant, exact, rtol=1e-13, atol=1e-13)


def test_exponential():
    z, side = torch.linspace(0, 700, 8).double().view(2, 4), torch.ones(2, 4).double()
    found = log_tail(lambda z: -2 * z, z, side, torch.full_like(z, -2.0))
    exact = -2 * z - math.log(2)
    torch.testing.assert_close(found, exact, rtol=1e-13, atol=1e-13)
