"""The velocity of a LogGamma draw, against an independent one of many digits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.log_gamma_velocity import log_gamma_velocity

CONCENTRATIONS = (1e-4, 0.003, 0.02, 0.046, 0.3, 1.0, 2.0, 4.5, 7.9, 8.1, 20.0, 300.0, 1e4)
PROBABILITIES = (1e-8, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-7)


def exact(y, a):
    """From a central difference of the nearer tail."""
    with mpmath.workdps(40):
        a, x = mpmath.mpf(a), mpmath.exp(mpmath.mpf(y))
        step = a * mpmath.mpf(10) ** -12
        low = x < a
        interval = (0, x) if low else (x, mpmath.inf)
        up, down = (mpmath.gammainc(a + s, *interval, regularized=True) for s in (step, -step))
        density = mpmath.exp(a * mpmath.mpf(y) - x - mpmath.loggamma(a))
        return float((-1 if low else 1) * (up - down) / (2 * step) / density)


def cases():
    for a in CONCENTRATIONS:
        a = float(np.float32(a))
        for u in PROBABILITIES:
            x = special.gammaincinv(a, u)
            if x > 1e-30:
                yield a, float(np.float32(math.log(x)))


# The value is rounded to float32 before the exact velocity is taken, so that only the formula errs.
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_against_many_digits(dtype, rtol):
    points = list(cases())
    a, y = torch.tensor(points, dtype=torch.float64).T
    expected = torch.tensor([exact(y, a) for a, y in points], dtype=torch.float64)
    velocity = log_gamma_velocity(y.to(dtype), a.to(dtype)).double()
    torch.testing.assert_close(velocity, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_where_the_variable_underflows(dtype, rtol):
    a = torch.tensor([1e-4, 1e-2, 1.0, 10.0], dtype=dtype)
    y = torch.tensor([-1e6, -1e4, -500.0, -200.0], dtype=dtype)
    expected = (torch.digamma(a + 1) - y) / a
    torch.testing.assert_close(log_gamma_velocity(y, a), expected, rtol=rtol, atol=0)


def test_solves_the_equation_of_transport():
    """dw/dy + (a - x) w = psi(a) - y, with the derivative by autograd: it is differentiable."""
    a = torch.tensor([0.05, 0.7, 3.0, 30.0], dtype=torch.float64)
    y = torch.tensor([-3.0, 0.5, 1.8, 3.6], dtype=torch.float64, requires_grad=True)
    w = log_gamma_velocity(y, a)
    (slope,) = torch.autograd.grad(w.sum(), y)
    torch.testing.assert_close(slope + (a - y.exp()) * w, torch.digamma(a) - y, rtol=1e-6, atol=1e-6)


def test_pieces_of_large_tensors():
    y = torch.linspace(-3, 3, 100_000, dtype=torch.float64).reshape(-1, 2)
    a = torch.tensor([0.5, 4.0], dtype=torch.float64)
    whole = log_gamma_velocity(y, a)
    torch.testing.assert_close(whole[40_000:40_010], log_gamma_velocity(y[40_000:40_010], a))
    torch.testing.assert_close(whole, log_gamma_velocity(y, a.expand(y.shape).contiguous()))
