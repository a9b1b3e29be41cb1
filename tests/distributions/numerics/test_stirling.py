"""What Stirling's formula leaves."""

import mpmath
import pytest
import torch

from pyro_reparam_ext.distributions.numerics.stirling import stirling_rest

POINTS = (1e-4, 0.1, 1.0, 7.9, 8.1, 50.0, 1e4, 1e7)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.float64, 1e-11)])
def test_against_many_digits(dtype, rtol):
    a = torch.tensor(POINTS, dtype=dtype)
    with mpmath.workdps(40):
        points = [mpmath.mpf(x.item()) for x in a]
        value = [float(mpmath.loggamma(x) - x * mpmath.log(x) + x) for x in points]
        slope = [float(mpmath.digamma(x) - mpmath.log(x)) for x in points]
    ours, ours_slope = (x.double() for x in stirling_rest(a))
    torch.testing.assert_close(ours, torch.tensor(value, dtype=torch.float64), rtol=rtol, atol=0)
    torch.testing.assert_close(ours_slope, torch.tensor(slope, dtype=torch.float64), rtol=rtol, atol=0)


def test_slope_is_the_derivative():
    a = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    value, slope = stirling_rest(a)
    (gradient,) = torch.autograd.grad(value.sum(), a)
    torch.testing.assert_close(gradient, slope.detach(), rtol=1e-9, atol=0)
