"""What Stirling's formula leaves."""

import mpmath
import pytest
import torch

from pyro_reparam_ext.numerics.stirling import stirling_rest, trigamma_difference

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trigamma_difference(dtype):
    a, b = torch.meshgrid(
        torch.tensor([0.01, 1.0, 20.0, 31.0, 1e3, 1e6], dtype=dtype),
        torch.tensor([0.5, 3.0, 1e4], dtype=dtype),
        indexing="ij",
    )
    with mpmath.workdps(40):
        expected = [
            float(mpmath.psi(1, x.item()) - mpmath.psi(1, mpmath.mpf(x.item()) + y.item()))
            for x, y in zip(a.flatten(), b.flatten(), strict=True)
        ]
    ours = trigamma_difference(a, b).double().flatten()
    rtol = 2e-5 if dtype == torch.float32 else 2e-9  # torch.polygamma
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=0)
