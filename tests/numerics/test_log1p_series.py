"""The series against mpmath."""

import mpmath
import pytest
import torch

from pyro_reparam_ext.numerics.log1p_series import NEAR, log1p_ratio


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-14), (torch.float32, 2e-7)])
def test_ratio_and_its_slope(dtype, precision):
    s = torch.tensor([-NEAR, -0.1, -1e-4, -1e-30, 0.0, 1e-9, 1e-3, 0.2, NEAR], dtype=dtype)
    s.requires_grad_()
    ratio = log1p_ratio(s)
    (slope,) = torch.autograd.grad(ratio.sum(), s)
    with mpmath.workdps(60):
        exact = [
            mpmath.taylor(lambda x: mpmath.log1p(x) / x if x else 1, x, 1) for x in map(_off_zero, s)
        ]
    for column, ours in enumerate((ratio, slope)):
        expected = torch.tensor([float(e[column]) for e in exact], dtype=torch.float64)
        torch.testing.assert_close(ours.double(), expected, rtol=precision, atol=0)


def _off_zero(x):
    """The quotient is not defined at 0 for mpmath; beside it the difference is below 1e-20."""
    x = mpmath.mpf(x.item())
    return x if abs(x) > 1e-20 else mpmath.mpf(10) ** -20
