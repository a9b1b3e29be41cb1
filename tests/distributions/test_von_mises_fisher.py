"""VonMisesFisher: moments, divergences, precision, and the gradient in both parameters."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import VonMises, VonMisesFisher, pathwise_at

from ..statistics import assert_mean
from .families.directional import directions, fisher_moments

LOC = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)


def sphere_grid() -> tuple[torch.Tensor, torch.Tensor]:
    """Points and weights on the sphere of 3 dimensions."""
    nodes, weights = (torch.as_tensor(x) for x in np.polynomial.legendre.leggauss(80))
    turn = torch.arange(120, dtype=torch.float64) * (2 * math.pi / 120)
    radius = (1 - nodes.square()).sqrt()[:, None]
    points = torch.stack([radius * turn.cos(), radius * turn.sin(), nodes[:, None].expand(80, 120)], -1)
    return points.reshape(-1, 3), (weights[:, None] * (2 * math.pi / 120)).expand(80, 120).reshape(-1)


@pytest.mark.parametrize("concentration", [0.0, 0.7, 20.0])
def test_moments_and_entropy_by_quadrature(concentration):
    fn = VonMisesFisher(LOC, concentration)
    x, weights = sphere_grid()
    log_prob = fn.log_prob(x)
    mass = weights * log_prob.exp()
    torch.testing.assert_close(mass.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(fn.mean, mass @ x)
    torch.testing.assert_close(fn.variance, mass @ x.square() - (mass @ x).square())
    torch.testing.assert_close(fn.entropy(), -mass @ log_prob)


@pytest.mark.parametrize("loc", directions(2, 5, 40))
@pytest.mark.parametrize("concentration", [0.5, 30.0])
def test_entropy(loc, concentration):
    fn = VonMisesFisher(torch.tensor(loc, dtype=torch.float64), concentration)
    expected = stats.vonmises_fisher(loc, concentration).entropy()
    assert fn.entropy().item() == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("concentrations", [(0.7, 12.0), (12.0, 0.7), (3.0, 0.0), (0.0, 3.0)])
def test_kl(concentrations):
    p = VonMisesFisher(LOC, concentrations[0])
    q = VonMisesFisher(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), concentrations[1])
    x, weights = sphere_grid()
    expected = (weights * p.log_prob(x).exp()) @ (p.log_prob(x) - q.log_prob(x))
    torch.testing.assert_close(kl_divergence(p, q), expected)


def test_in_the_plane_it_is_von_mises():
    angle = torch.linspace(-3, 3, 9, dtype=torch.float64)
    loc = torch.tensor([math.cos(0.3), math.sin(0.3)], dtype=torch.float64)
    torch.testing.assert_close(
        VonMisesFisher(loc, 2.0).log_prob(torch.stack([angle.cos(), angle.sin()], -1)),
        VonMises(torch.tensor(0.3, dtype=torch.float64), 2.0).log_prob(angle),
    )


@pytest.mark.parametrize("dim", [2, 5, 300])
@pytest.mark.parametrize("concentration", [1e-3, 2.0, 1e5])
def test_gradient_of_the_mean_direction(dim, concentration):
    """d E[x . loc] / d concentration is the variance of x . loc; .14739 at d = 5, concentration 2."""
    loc = torch.eye(dim, dtype=torch.float64)[0]
    leaf = torch.full((10_000,), concentration, dtype=torch.float64, requires_grad=True)
    x = VonMisesFisher(loc.expand(10_000, dim), leaf).rsample()
    (gradient,) = torch.autograd.grad(x[:, 0].sum(), leaf)
    first, second = fisher_moments(torch.tensor(concentration, dtype=torch.float64), dim)
    exact = second - first.square()
    if (dim, concentration) == (5, 2.0):
        assert exact.item() == pytest.approx(0.14739, abs=1e-5)
    assert_mean(gradient[:, None], exact[None])


def test_gradient_is_that_of_a_rotation():
    loc = LOC.clone().requires_grad_()
    x = VonMisesFisher(loc, 3.0).rsample((20,))
    cotangent = torch.randn(20, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((x * cotangent).sum(), loc)
    assert abs(gradient @ LOC) < 1e-10
    tangent = torch.linalg.cross(LOC, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    generator = torch.outer(tangent, LOC) - torch.outer(LOC, tangent)
    torch.testing.assert_close(gradient @ tangent, (cotangent * (x.detach() @ generator.T)).sum())


def test_a_given_value_moves_as_a_sample():
    concentration = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    fn = VonMisesFisher(LOC, concentration)
    x = fn.rsample((50,))
    again = pathwise_at(fn, x.detach())
    torch.testing.assert_close(again, x)
    (ours,) = torch.autograd.grad(again[:, 1].sum(), concentration)
    (theirs,) = torch.autograd.grad(x[:, 1].sum(), concentration)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dim", [2, 3, 50])
@pytest.mark.parametrize("concentration", [1e4, 1e6])
def test_single_precision_at_a_narrow_law(dim, concentration):
    """There concentration (1 - x . loc) is about half a chi-square variable of d - 1 degrees."""
    loc = torch.eye(dim)[-1]
    x = VonMisesFisher(loc, concentration).sample((20_000,))
    scaled = 0.5 * concentration * (x.double() - loc.double()).square().sum(-1)
    # By the asymptotic series of the ratio of Bessel functions.
    shortfall = (dim - 1) / 2 - (dim - 1) * (dim - 3) / (8 * concentration)
    assert_mean(scaled[:, None], torch.tensor([shortfall]))


def test_gradients_at_concentration_0():
    concentration = torch.zeros(1000, dtype=torch.float64, requires_grad=True)
    x = VonMisesFisher(LOC.expand(1000, 3), concentration).rsample()
    (gradient,) = torch.autograd.grad((x @ LOC).sum(), concentration)
    cosine = x.detach() @ LOC
    torch.testing.assert_close(gradient, (1 - cosine.square()) / 2)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_needs_two_dimensions(shape):
    with pytest.raises(ValueError, match="d >= 2"):
        VonMisesFisher(torch.ones(shape), 1.0)


def test_needs_a_unit_vector():
    with pytest.raises(ValueError, match="loc"):
        VonMisesFisher(torch.ones(3), 1.0, validate_args=True)
