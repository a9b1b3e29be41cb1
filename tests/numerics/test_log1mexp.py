"""log(1 - e^y)."""

import mpmath
import pytest
import torch

from pyro_reparam_ext.numerics.log1mexp import log1mexp, log_sigmoids


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_both_ends(dtype, rtol):
    y = torch.tensor([-1e-30, -1e-6, -0.5, -0.7, -3.0, -60.0], dtype=dtype, requires_grad=True)
    with mpmath.workdps(60):
        exact = [float(mpmath.log(-mpmath.expm1(mpmath.mpf(x.item())))) for x in y]
        slope = [float(1 / -mpmath.expm1(-mpmath.mpf(x.item()))) for x in y]
    value = log1mexp(y)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    torch.testing.assert_close(value.detach(), torch.tensor(exact, dtype=dtype), rtol=rtol, atol=0)
    torch.testing.assert_close(gradient, torch.tensor(slope, dtype=dtype), rtol=rtol, atol=0)


def test_log_sigmoids():
    logit = torch.tensor([-1e4, -80.0, -1.0, 0.0, 2.0, 80.0, 1e4], dtype=torch.float64)
    log_x, log_rest = log_sigmoids(logit)
    torch.testing.assert_close(log_x, torch.nn.functional.logsigmoid(logit))
    torch.testing.assert_close(log_rest, torch.nn.functional.logsigmoid(-logit))
