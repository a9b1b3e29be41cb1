import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.gumbel_sum import (
    GAMMA,
    log_sum_mean,
    log_weighted_sum_mean,
    softmax_moments,
)
from pyro_reparam_ext.numerics.logistic_sum import sigmoid_mean, sigmoid_slope_mean, softplus_mean

F64 = torch.float64


@pytest.mark.parametrize("temperature", [0.02, 0.9, 1.0, 4.0])
@pytest.mark.parametrize("apart", [0.0, 0.75, -6.0])
def test_of_two_classes(apart, temperature):
    """The difference of two Gumbel variables is logistic."""
    apart, t = torch.tensor(apart, dtype=F64), torch.tensor(temperature, dtype=F64)
    location = torch.stack([apart + 3, torch.full_like(apart, 3)])
    mean, slope = softmax_moments(location, t)
    torch.testing.assert_close(mean[0], sigmoid_mean(apart, t), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(slope[0], sigmoid_slope_mean(apart, t), rtol=1e-8, atol=1e-10)
    exact = (3 + GAMMA) / t + softplus_mean(apart, t)
    torch.testing.assert_close(log_sum_mean(location, t), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_equal_weights(classes):
    """The sum is a Gamma variable."""
    log_weights = torch.full((classes,), 0.3, dtype=F64)
    exact = 0.3 + special.digamma(classes)
    assert log_weighted_sum_mean(log_weights).item() == pytest.approx(exact, abs=1e-12)
    location = torch.zeros(classes, dtype=F64)
    mean, _ = softmax_moments(location, torch.tensor(0.3, dtype=F64))
    torch.testing.assert_close(mean, torch.full_like(mean, 1 / classes), rtol=1e-7, atol=0)


def test_unequal_weights():
    """Of two exponentials: (a log a - b log b) / (a - b) - gamma."""
    log_weights = torch.tensor([[0.5, -1.0], [40.0, -40.0]], dtype=F64)
    a, b = log_weights.exp().unbind(-1)
    exact = (a * a.log() - b * b.log()) / (a - b) - GAMMA
    torch.testing.assert_close(log_weighted_sum_mean(log_weights), exact, rtol=1e-12, atol=1e-12)


def test_gradients():
    location = torch.tensor([0.5, -1.0, 0.0], dtype=F64, requires_grad=True)
    for temperature in (0.3, 2.0):
        t = torch.tensor(temperature, dtype=F64, requires_grad=True)
        for function in (softmax_moments, log_sum_mean):
            assert torch.autograd.gradcheck(function, (location, t), atol=1e-7, fast_mode=True)
    assert torch.autograd.gradcheck(log_weighted_sum_mean, (location,), atol=1e-7)


def test_float32():
    location = torch.tensor([0.5, -1.0, 0.0])
    moments = softmax_moments(location, torch.tensor(0.3))
    exact = softmax_moments(location.double(), torch.tensor(0.3).double())
    assert moments.mean.dtype == torch.float32
    torch.testing.assert_close(moments.mean.double(), exact.mean)
