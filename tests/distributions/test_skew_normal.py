import numpy as np
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.skew_normal import _velocity

SkewNormal = pre.distributions.SkewNormal


def test_no_skewness_is_the_normal():
    """And there dz / d(skewness) is the root of 2 / pi for every draw."""
    skewness = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    fn = SkewNormal(torch.tensor(1.0, dtype=torch.float64), 2.0, skewness)
    value = fn.rsample()
    (gradient,) = torch.autograd.grad(value.sum(), skewness)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 2 * np.sqrt(2 / np.pi)))
    normal = stats.norm(1, 2)
    exact = torch.as_tensor(normal.logpdf(value.detach().numpy()))
    torch.testing.assert_close(fn.log_prob(value.detach()).detach(), exact)


@pytest.mark.parametrize("skewness", [-300.0, -2.0, 0.5, 40.0])
def test_single_precision_of_the_velocity(skewness):
    value = SkewNormal(0.0, 1.0, skewness).sample((1000,))
    single = _velocity(value, torch.tensor(0.0), torch.tensor(1.0), torch.tensor(skewness))
    value = value.double()
    double = _velocity(value, *torch.tensor([0.0, 1.0, skewness], dtype=torch.float64))
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=1e-12)


def test_density_in_the_thin_tail():
    fn = SkewNormal(*torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64))
    value = torch.tensor([-8.0, -30.0], dtype=torch.float64)
    z = value.numpy()
    exact = np.log(2) + stats.norm.logpdf(z) + stats.norm.logcdf(5 * z)
    torch.testing.assert_close(fn.log_prob(value), torch.as_tensor(exact))


def test_second_derivative():
    """d2 E[x] / d(skewness)2 at 0 is 0; that of E[x**2] is 0 for any skewness."""
    skewness = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    value = torch.tensor([0.4, -0.2, 1.1], dtype=torch.float64)

    def slope(skewness):
        zero, one = torch.zeros_like(value), torch.ones_like(value)
        return _velocity(value, zero, one, skewness)[2]

    assert torch.autograd.gradcheck(slope, skewness)


def test_cdf_in_single_precision():
    """Of the order of the rounding of the normal's tail: 5.1e-12 is right at -2."""
    z = torch.tensor([-8.0, -6.0, -5.0, -4.0, 0.5, 2.0])
    for skewness in (-3.0, -1.0, 0.0, 0.5):
        ours = SkewNormal(0.0, 1.0, skewness).cdf(z).double()
        exact = torch.as_tensor(stats.skewnorm(skewness).cdf(z.double().numpy()))
        torch.testing.assert_close(ours, exact, rtol=1e-4 if skewness <= 0 else 0.5, atol=1e-30)
    assert SkewNormal(0.0, 1.0, 3.0).cdf(torch.tensor(-2.0)).item() == pytest.approx(5.1e-12, abs=5e-9)


def test_log_prob_far_out_where_the_square_alone_overflows():
    log_prob = SkewNormal(0.0, 1.0, 0.1).log_prob(torch.tensor(-2e19))
    assert log_prob.item() == pytest.approx(-2.02e38, rel=1e-5)
