"""The angle from the mean direction, against integrals in more digits."""

import functools
import math

import mpmath
import pytest
import torch
from numpy.polynomial.legendre import leggauss
from scipy import special

from pyro_reparam_ext.numerics import polar_angle
from pyro_reparam_ext.numerics.polar_angle import polar_law, quantile, unexpanded, velocity

LAWS = [(2, 0.0), (2, 1e-3), (2, 2.0), (2, 20.0), (2, 200.0), (2, 1e4), (2, 1e6)] + [
    (3, 0.5),
    (5, 0.0),
    (5, 2.0),
    (10, 1e4),
    (50, 10.0),
    (300, 100.0),
    (300, 1e5),
]
NORMAL = torch.tensor([-4.0, -1.0, 0.3, 1.5, 4.0], dtype=torch.float64)
laws = pytest.mark.parametrize(("dim", "concentration"), LAWS)


class Exact:
    def __init__(self, dim: int, concentration: float) -> None:
        self.dim, self.concentration = dim, mpmath.mpf(concentration)
        ratio = 2 * self.concentration / (dim - 1)
        self.centre = mpmath.acos(ratio / (1 + mpmath.sqrt(1 + ratio**2)))
        curvature = (dim - 2) / mpmath.sin(self.centre) ** 2 + self.concentration
        self.width = 1 / mpmath.sqrt(curvature + 4)
        self.total = self.integral(lambda s: 1, 0, mpmath.pi)
        versine = self.integral(lambda s: 2 * mpmath.sin(s / 2) ** 2, 0, mpmath.pi)
        self.shortfall = versine / self.total

    def density(self, s: mpmath.mpf) -> mpmath.mpf:
        versine = 2 * mpmath.sin(s / 2) ** 2
        return mpmath.sin(s) ** (self.dim - 2) * mpmath.exp(-self.concentration * versine)

    def integral(self, function, low, high) -> mpmath.mpf:
        steps = [self.centre + i * self.width for i in range(-20, 31)]
        edges = [low, *(x for x in steps if low < x < high)]
        end = high if high - edges[-1] < 4 * self.width else min(high, edges[-1] + 4 * self.width)
        with mpmath.workdps(25):
            return mpmath.quad(
                lambda s: function(s) * self.density(s), [*edges, end], method="gauss-legendre"
            )

    def velocity(self, angle: float) -> float:
        low, high = (0, angle) if angle < self.centre else (angle, mpmath.pi)
        integral = self.integral(lambda s: self.shortfall - 2 * mpmath.sin(s / 2) ** 2, low, high)
        return float((1 if low else -1) * integral / self.density(angle))

    def cdf(self, angle: float) -> float:
        return float(self.integral(lambda s: 1, 0, angle) / self.total)

    def survival(self, angle: float) -> float:
        return float(self.integral(lambda s: 1, angle, mpmath.pi) / self.total)


@functools.cache
def exact(dim: int, concentration: float) -> Exact:
    return Exact(dim, concentration)


@laws
def test_quantiles(dim, concentration):
    angles = quantile(NORMAL, torch.tensor(concentration, dtype=torch.float64), dim)
    law = exact(dim, concentration)
    for z, angle in zip(NORMAL.tolist(), angles.tolist(), strict=True):
        tail = law.cdf(mpmath.mpf(angle)) if z < 0 else law.survival(mpmath.mpf(angle))
        assert tail == pytest.approx(special.ndtr(-abs(z)), rel=1e-9)


@laws
def test_quantiles_in_single_precision(dim, concentration):
    expected = quantile(NORMAL, torch.tensor(concentration, dtype=torch.float64), dim)
    single = quantile(NORMAL.float(), torch.tensor(concentration), dim)
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=0)


@laws
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_velocity(dim, concentration, dtype, tolerance):
    parameter = torch.tensor(concentration, dtype=dtype)
    angles = quantile(NORMAL.to(dtype), parameter, dim)
    expected = torch.tensor(
        [exact(dim, concentration).velocity(mpmath.mpf(x)) for x in angles.tolist()],
        dtype=torch.float64,
    )
    torch.testing.assert_close(
        velocity(angles, parameter, dim).double(),
        expected,
        rtol=tolerance,
        atol=tolerance * expected.abs().max().item(),
    )


@laws
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_law(dim, concentration, dtype, tolerance):
    parameter = torch.tensor(concentration, dtype=dtype, requires_grad=True)
    law = polar_law(parameter, dim)
    expected = exact(dim, concentration)
    assert law.log_normaliser.item() == pytest.approx(
        float(mpmath.log(expected.total)), rel=tolerance, abs=tolerance
    )
    assert law.shortfall.item() == pytest.approx(float(expected.shortfall), rel=tolerance)
    (slope,) = torch.autograd.grad(law.log_normaliser, parameter)
    assert slope.item() == pytest.approx(-float(expected.shortfall), rel=tolerance)


@pytest.mark.parametrize("dim", [2, 5, 80])
@pytest.mark.parametrize("concentration", [0.5, 30.0, 1000.0])
def test_normaliser_is_a_bessel_function(dim, concentration):
    order = dim / 2 - 1
    expected = (
        math.log(special.ive(order, concentration))
        - order * math.log(concentration / 2)
        + math.lgamma((dim - 1) / 2)
        + 0.5 * math.log(math.pi)
    )
    law = polar_law(torch.tensor(concentration, dtype=torch.float64), dim)
    assert law.log_normaliser.item() == pytest.approx(expected, rel=1e-11)


def test_more_steps_change_nothing(monkeypatch):
    """The fixed number of steps is enough, from the narrowest law to the uniform one."""
    normal = torch.linspace(-6, 6, 121, dtype=torch.float64)[:, None]
    concentration = torch.cat([torch.zeros(1), torch.logspace(-4, 7, 56)]).double()
    for dim in (2, 3, 4, 5, 8, 20, 100, 800):
        angles = quantile(normal, concentration, dim)
        with monkeypatch.context() as patch:
            patch.setattr(polar_angle, "_DOUBLE_STEPS", polar_angle._DOUBLE_STEPS * 2)
            more = quantile(normal, concentration, dim)
        torch.testing.assert_close(angles, more, rtol=1e-8, atol=0)


@pytest.mark.parametrize(("dim", "expected"), [(5, 0.14739), (2, 0.164222)])
def test_gradient_of_the_mean_cosine(dim, expected):
    """Over Gauss-Legendre nodes in the probability: no Monte Carlo error."""
    nodes, weights = (torch.as_tensor(x) for x in leggauss(100))
    concentration = torch.tensor(2.0, dtype=torch.float64)
    angles = quantile(torch.special.ndtri(0.5 * (nodes + 1)), concentration, dim)
    gradient = 0.5 * weights @ (-angles.sin() * velocity(angles, concentration, dim))
    mean = 1 - polar_law(concentration, dim).shortfall.item()
    assert gradient.item() == pytest.approx(1 - mean**2 - (dim - 1) * mean / 2, rel=1e-5)
    assert gradient.item() == pytest.approx(expected, abs=1e-5)


def test_is_computed_once_for_what_is_expanded():
    base = torch.tensor([[0.5], [2.0]], dtype=torch.float64, requires_grad=True)
    wide = base.expand(3, 2, 4)
    assert unexpanded(wide).shape == (1, 2, 1)
    assert unexpanded(wide.clone()).shape == wide.shape
    for lazy, eager in zip(polar_law(wide, 3), polar_law(wide.clone(), 3), strict=True):
        assert lazy.shape == wide.shape
        torch.testing.assert_close(lazy, eager)
    normal = torch.randn(3, 2, 4, dtype=torch.float64)
    angles = quantile(normal, wide, 3)
    torch.testing.assert_close(angles, quantile(normal, wide.clone(), 3))
    torch.testing.assert_close(velocity(angles, wide, 3), velocity(angles, wide.clone(), 3))


def test_is_differentiable_again():
    angles = torch.tensor([0.3, 1.1, 2.4], dtype=torch.float64, requires_grad=True)
    concentration = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    for dim in (2, 3, 6):
        assert torch.autograd.gradcheck(lambda x, k, d=dim: velocity(x, k, d), (angles, concentration))
        assert torch.autograd.gradcheck(lambda k, d=dim: polar_law(k, d).shortfall, concentration)
