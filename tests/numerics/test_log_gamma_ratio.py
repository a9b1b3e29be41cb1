"""Quotients of gamma functions against mpmath."""

import mpmath
import pytest
import torch

from pyro_reparam_ext.numerics.log_gamma_ratio import (
    log_gamma_curvature,
    log_gamma_half_step,
    log_gamma_ratio,
)

POINTS = [0.001, 0.3, 1.0, 7.9, 8.1, 50.0, 1e4, 1e7]
dtypes = pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 3e-6)]
)


def exactly(function, *arguments):
    with mpmath.workdps(60):
        return float(function(*(mpmath.mpf(x.item()) for x in arguments)))


@dtypes
def test_ratio(dtype, precision):
    for x in POINTS:
        for d in (1e-6, 0.1, 1.0, 30.0, 1e5):
            x_, d_ = torch.tensor(x, dtype=dtype), torch.tensor(d, dtype=dtype)
            exact = exactly(lambda x, d: mpmath.loggamma(x + d) - mpmath.loggamma(x), x_, d_)
            # As precise as the larger of the result and the steps it is made of.
            scale = max(abs(exact), min(d, 1.0) * max(1.0, 1 / x) * 0.1)
            assert abs(log_gamma_ratio(x_, d_).item() - exact) < precision * scale, (x, d)


@dtypes
def test_half_step_and_its_slope(dtype, precision):
    """In float32 they keep their digits where both logarithms are 1e8."""

    def function(x):
        return mpmath.loggamma(x + 0.5) - mpmath.loggamma(x) - mpmath.log(x) / 2

    for x in POINTS:
        x_ = torch.tensor(x, dtype=dtype, requires_grad=True)
        value, slope = log_gamma_half_step(x_)
        (derivative,) = torch.autograd.grad(value, x_)
        exact = exactly(function, x_)
        exact_slope = exactly(lambda x: mpmath.digamma(x + 0.5) - mpmath.digamma(x) - 1 / (2 * x), x_)
        assert abs(value.item() / exact - 1) < precision, x
        assert abs(slope.item() / exact_slope - 1) < 10 * precision, x
        assert abs(derivative.item() / exact_slope - 1) < 10 * precision, x


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 5e-9), (torch.float32, 1e-4)])
def test_curvature(dtype, precision):
    """In float32 it keeps its digits where the three logarithms differ by 1e-14."""

    def function(x, d):
        return mpmath.loggamma(x + 2 * d) - 2 * mpmath.loggamma(x + d) + mpmath.loggamma(x)

    for x in POINTS:
        for d in (1e-7, 1e-3, 0.1, 0.9, 1.1, 100.0):
            x_, d_ = torch.tensor(x, dtype=dtype), torch.tensor(d, dtype=dtype)
            if d > 1 and x > 1e3:
                continue  # by differences
            exact = exactly(function, x_, d_)
            assert abs(log_gamma_curvature(x_, d_).item() / exact - 1) < precision, (x, d)
