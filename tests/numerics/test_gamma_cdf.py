"""The CDF of a Gamma variable, given by its logarithm."""

import math

import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.gamma_cdf import gamma_cdf, log_gamma_density


def test_value_and_gradients():
    a = torch.tensor([0.05, 0.8, 3.0, 40.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([-10.0, 0.3, 0.9, 3.8], dtype=torch.float64, requires_grad=True)
    cdf = gamma_cdf(y, a)
    x, c = y.detach().exp().numpy(), a.detach().numpy()
    torch.testing.assert_close(cdf.detach(), torch.tensor(special.gammainc(c, x)))
    da, dy = torch.autograd.grad(cdf.sum(), (a, y))
    slope = (special.gammainc(c * (1 + 1e-5), x) - special.gammainc(c * (1 - 1e-5), x)) / (2e-5 * c)
    torch.testing.assert_close(da, torch.tensor(slope), rtol=1e-6, atol=1e-9)
    density = torch.tensor(x**c / special.gamma(c)) * (-y.detach().exp()).exp()
    torch.testing.assert_close(dy, density)


def test_where_the_variable_underflows():
    cdf = gamma_cdf(torch.tensor(-1e5), torch.tensor(1e-4))
    assert math.isclose(cdf.item(), math.exp(-10 - math.lgamma(1.0001)), rel_tol=1e-5)


def test_log_density_of_large_concentrations_in_float32():
    """The terms are of the order of 1e8, the result of 10."""
    a = torch.tensor(1e6)
    y = a.log()
    exact = 1e6 * float(y) - math.exp(float(y)) - math.lgamma(1e6)
    torch.testing.assert_close(log_gamma_density(y, a).item(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [gamma_cdf, log_gamma_density])
def test_gradients_are_numbers_everywhere(function, dtype):
    y, a = torch.meshgrid(
        torch.tensor([-1e30, -1e4, -90.0, 0.0, 20.0, 36.8, 88.0, 100.0, 1e4], dtype=dtype),
        torch.tensor([1e-6, 0.5, 2.0, 30.0, 1e6], dtype=dtype),
        indexing="ij",
    )
    y, a = y.clone().requires_grad_(), a.clone().requires_grad_()
    dy, da = torch.autograd.grad(function(y, a).sum(), (y, a), create_graph=True)
    assert da.isfinite().all() and not dy.isnan().any()
    if function is gamma_cdf:
        (second,) = torch.autograd.grad(dy.sum(), y)
        assert dy.isfinite().all() and second.isfinite().all()


def test_gradient_of_the_log_density_far_out():
    """y - digamma(a), and a - x."""
    a, y = (torch.tensor(v, requires_grad=True) for v in (2.0, 30.0))
    dy, da = torch.autograd.grad(log_gamma_density(y, a), (y, a))
    torch.testing.assert_close(da.item(), 30 - special.digamma(2.0), rtol=1e-6, atol=0)
    torch.testing.assert_close(dy.item(), 2 - math.exp(30), rtol=1e-5, atol=0)
