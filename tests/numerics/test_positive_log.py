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
    x = torch.tensor([3.0, 0.0, 0.0, 0.0])
    exponent = torch.tensor([2.0, 2.0, 0.0, -0.5], requires_grad=True)
    given = exponent * positive_log(x)
    ours = power_at_zero(given, x, exponent)
    torch.testing.assert_close(ours, torch.xlogy(exponent, x))
    (gradient,) = torch.autograd.grad(ours.sum(), exponent)
    assert (gradient[[1, 3]] == 0).all() and gradient.isfinite().all()
