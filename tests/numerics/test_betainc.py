"""The regularised incomplete beta function."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from pyro_reparam_ext.numerics.betainc import betainc, log_beta_density

A = np.array([0.05, 0.5, 3.0, 40.0, 900.0, 5.0])
B = np.array([0.3, 2.0, 0.7, 25.0, 1100.0, 0.5])
X = np.array([1e-8, 0.2, 0.9, 0.6, 0.46, 0.3])


def test_value_and_gradients():
    a, b, x = (torch.tensor(v, requires_grad=True) for v in (A, B, X))
    value = betainc(a, b, x)
    torch.testing.assert_close(
        value.detach(), torch.tensor(special.betainc(A, B, X)), rtol=1e-8, atol=0
    )
    da, db, dx = torch.autograd.grad(value.sum(), (a, b, x))
    h = 1e-5
    slope_a = (special.betainc(A * (1 + h), B, X) - special.betainc(A * (1 - h), B, X)) / (2 * h * A)
    slope_b = (special.betainc(A, B * (1 + h), X) - special.betainc(A, B * (1 - h), X)) / (2 * h * B)
    torch.testing.assert_close(da, torch.tensor(slope_a), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(db, torch.tensor(slope_b), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(dx, torch.tensor(stats.beta(A, B).pdf(X)), rtol=1e-8, atol=0)


def test_the_complement_keeps_the_upper_end():
    a, b = torch.tensor(2.0), torch.tensor(1e-3)
    rest = torch.tensor(1e-30)
    value = betainc(a, b, 1 - rest, rest)
    expected = 1 - special.betainc(1e-3, 2.0, 1e-30)
    torch.testing.assert_close(value.item(), float(expected), rtol=1e-6, atol=0)


def test_log_density_of_large_concentrations_in_float32():
    a, b = torch.tensor(3e5), torch.tensor(1e5)
    density = log_beta_density(torch.tensor(0.75).log(), torch.tensor(0.25).log(), a, b)
    expected = stats.beta(3e5, 1e5).logpdf(0.75) + np.log(0.75 * 0.25)
    torch.testing.assert_close(density.item(), float(expected), rtol=1e-2, atol=0)


@pytest.mark.parametrize("given", [False, True])
def test_second_derivatives(given):
    """At (a, b) = (2, 3) the density is 12 x (1 - x)^2, and its slope at .3 is .84."""
    a, b, x = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.0, 3.0, 0.3))

    def gradients(a, b, x):
        value = betainc(a, b, x, (1 - x).detach() if given else None)
        return torch.autograd.grad(value, (a, b, x), create_graph=True)

    torch.testing.assert_close(
        torch.autograd.grad(gradients(a, b, x)[2], x)[0].item(), 0.84, rtol=1e-9, atol=0
    )
    h = 1e-5
    for i in range(3):
        up, down = ([v + s * h * (k == i) for k, v in enumerate((a, b, x))] for s in (1, -1))
        differences = [(u - d) / (2 * h) for u, d in zip(gradients(*up), gradients(*down), strict=True)]
        for first, slope in zip(gradients(a, b, x), differences, strict=True):
            (second,) = torch.autograd.grad(first, (a, b, x)[i], retain_graph=True)
            torch.testing.assert_close(second, slope.detach(), rtol=1e-5, atol=1e-7)
