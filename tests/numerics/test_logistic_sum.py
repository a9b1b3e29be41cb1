import pytest
import torch
from scipy import integrate, special

from pyro_reparam_ext.numerics.logistic_sum import sigmoid_mean, sigmoid_slope_mean, softplus_mean


def by_scipy(function, location, temperature):
    def integrand(z):
        noise = z * temperature - location
        density = special.expit(noise) * special.expit(-noise) * temperature
        return function(z) * density

    # Around the step of the sigmoid, and far enough for the noise.
    reach = (40.0 + abs(location)) / temperature
    ends = [-reach, -30.0, 0.0, 30.0, reach] if reach > 30 else [-reach, 0.0, reach]
    parts = zip(ends[:-1], ends[1:], strict=True)
    return sum(integrate.quad(integrand, a, b, epsabs=1e-12, limit=500)[0] for a, b in parts)


@pytest.mark.parametrize("temperature", [0.02, 0.9, 1.0, 4.0])
@pytest.mark.parametrize("location", [0.0, 0.75, -6.0])
def test_expectations(location, temperature):
    expected = (
        (sigmoid_mean, special.expit),
        (sigmoid_slope_mean, lambda z: special.expit(z) * special.expit(-z)),
        (softplus_mean, lambda z: -special.log_expit(-z)),
    )
    arguments = (torch.tensor(x, dtype=torch.float64) for x in (location, temperature))
    location_, temperature_ = arguments
    for ours, function in expected:
        exact = by_scipy(function, location, temperature)
        assert ours(location_, temperature_).item() == pytest.approx(exact, rel=1e-7, abs=1e-10)


def test_gradients_on_either_side_of_temperature_one():
    temperature = torch.tensor([0.999, 1.0, 1.001], dtype=torch.float64, requires_grad=True)
    location = torch.tensor(0.75, dtype=torch.float64)
    for ours in (sigmoid_mean, sigmoid_slope_mean, softplus_mean):
        (slope,) = torch.autograd.grad(ours(location, temperature).sum(), temperature)
        torch.testing.assert_close(slope[1].expand(3), slope, rtol=1e-2, atol=1e-5)
        assert torch.autograd.gradcheck(ours, (location, temperature[:1]), atol=1e-6)
