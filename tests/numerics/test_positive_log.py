"""Logarithms of values that may be 0."""

import math

import torch

from pyro_reparam_ext.numerics.positive_log import positive_log, power_at_zero


def test_finite_with_finite_gradients():
    x = torch.tensor([0.0, 1e-30, 2.0], requires_grad=True)
    y = positive_log(x)
    torch.testing.assert_close(y[1:], x[1:].log())
    assert y[0] == math.log(torch.finfo(torch.float32).tiny)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 1e30, 0.5]))


def test_power_at_zero():
    x = torch.tensor([3.0, 0.0, 0.0, 0.0, -1.0], requires_grad=True)
    exponent = torch.tensor([2.0, 2.0, 0.0, -0.5, 1.0])
    expected = torch.tensor([0.0, -math.inf, 0.0, math.inf, math.nan])
    torch.testing.assert_close(power_at_zero(x, exponent), expected, equal_nan=True)
