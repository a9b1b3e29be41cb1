"""Components of a simplex whose logarithms are far below the range of floats."""

import math

import pytest
import torch
from torch.distributions import biject_to

from pyro_reparam_ext.distributions.supports.compressed_simplex import (
    CompressedSoftmax,
    compressed,
    compressed_simplex,
    expanded_log,
    threshold_of,
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
def test_reads_back_what_was_written(dtype):
    log_y = -torch.logspace(0, 5.5, 200, dtype=dtype)
    held = compressed(log_y)
    assert (held >= torch.finfo(dtype).tiny).all()
    assert (held.diff() < 0).all()
    torch.testing.assert_close(expanded_log(held), log_y, rtol=200 * torch.finfo(dtype).eps, atol=0)


@DTYPES
def test_keeps_what_floats_hold(dtype):
    log_y = torch.linspace(-threshold_of(dtype) + 0.1, 0, 50, dtype=dtype)
    torch.testing.assert_close(compressed(log_y), log_y.exp(), rtol=0, atol=0)


@DTYPES
def test_gradients_pass_both_ways(dtype):
    log_y = -torch.logspace(0, 5.5, 200, dtype=dtype)
    log_y.requires_grad_()
    (gradient,) = torch.autograd.grad(expanded_log(compressed(log_y)).sum(), log_y)
    torch.testing.assert_close(gradient, torch.ones_like(gradient), rtol=1e-4, atol=0)


def test_zero_is_the_least():
    for dtype in (torch.float32, torch.float64):
        y = torch.zeros((), dtype=dtype, requires_grad=True)
        log_y = expanded_log(y)
        assert -math.inf < log_y < -4e5
        assert torch.autograd.grad(log_y, y)[0].isfinite()


def test_bijection_at_ordinary_values():
    """Against the Jacobian by automatic differentiation."""
    transform = biject_to(compressed_simplex)
    x = torch.tensor([0.3, -2.0, 1.5], dtype=torch.float64)
    y = transform(x)
    jacobian = torch.func.jacfwd(lambda x: transform(x)[:-1])(x)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), jacobian.slogdet()[1])
    torch.testing.assert_close(transform.inv(y), x)
    assert transform.forward_shape((2, 3)) == (2, 4)
    assert transform.inverse_shape((2, 4)) == (2, 3)


def test_bijection_far_out():
    transform = CompressedSoftmax()
    x = torch.tensor([[-3e4, 2e4], [1e4, 1e4 + 1], [-1e4, -1e3]])
    y = transform(x)
    assert compressed_simplex.check(y).all()
    torch.testing.assert_close(transform.inv(y), x, rtol=1e-5, atol=0.1)


def test_tolerance_grows_with_the_number_of_components():
    y = torch.full((4000,), 1 / 4000)
    assert compressed_simplex.check(y * (1 + 1e-4))
    assert not compressed_simplex.check(y * 1.01)
