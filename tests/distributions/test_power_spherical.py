"""PowerSpherical: moments, divergences, precision."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import PowerSpherical, VonMisesFisher, pathwise_at

from ..statistics import assert_mean
from .families.directional import directions
from .test_von_mises_fisher import LOC, sphere_grid


@pytest.mark.parametrize("concentration", [0.0, 0.7, 20.0])
def test_moments_and_entropy_by_quadrature(concentration):
    fn = PowerSpherical(LOC, concentration)
    x, weights = sphere_grid()
    log_prob = fn.log_prob(x)
    mass = weights * log_prob.exp()
    tolerance = {"rtol": 1e-4, "atol": 1e-5}  # the density has a kink at the antipode
    torch.testing.assert_close(mass.sum(), torch.ones((), dtype=torch.float64), **tolerance)
    torch.testing.assert_close(fn.mean, mass @ x, **tolerance)
    torch.testing.assert_close(fn.variance, mass @ x.square() - (mass @ x).square(), **tolerance)
    torch.testing.assert_close(fn.entropy(), -mass @ log_prob, **tolerance)


@pytest.mark.parametrize("concentrations", [(2.0, 12.0), (12.0, 2.0), (3.0, 0.0)])
def test_kl_to_von_mises_fisher(concentrations):
    p = PowerSpherical(LOC, concentrations[0])
    q = VonMisesFisher(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), concentrations[1])
    x, weights = sphere_grid()
    expected = (weights * p.log_prob(x).exp()) @ (p.log_prob(x) - q.log_prob(x))
    torch.testing.assert_close(kl_divergence(p, q), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("loc", directions(2, 5, 40))
def test_uniform(loc):
    fn = PowerSpherical(torch.tensor(loc, dtype=torch.float64), 0.0)
    dim = len(loc)
    area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    assert fn.entropy().item() == pytest.approx(area, rel=1e-12)
    x = fn.sample((20,))
    torch.testing.assert_close(fn.log_prob(x), torch.full((20,), -area, dtype=torch.float64))


@pytest.mark.parametrize("loc", directions(2, 5, 40))
@pytest.mark.parametrize("concentration", [1e-3, 10.0, 1e4, 1e6])
def test_single_precision(loc, concentration):
    single = PowerSpherical(torch.tensor(loc), torch.tensor(concentration, requires_grad=True))
    double = PowerSpherical(
        torch.tensor(loc, dtype=torch.float64),
        torch.tensor(concentration, dtype=torch.float64, requires_grad=True),
    )
    torch.testing.assert_close(single.entropy().double(), double.entropy(), rtol=2e-6, atol=2e-5)
    for of in (PowerSpherical.entropy, lambda fn: fn.log_prob(fn.loc)):
        (ours,) = torch.autograd.grad(of(single), single.concentration)
        (exact,) = torch.autograd.grad(of(double), double.concentration)
        torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("concentration", [0.0, 2.0, 1e3])
def test_gradient_of_the_mean_direction(dim, concentration):
    """E[x . loc] = concentration / (concentration + d - 1)."""
    loc = torch.eye(dim, dtype=torch.float64)[0]
    leaf = torch.full((10_000,), concentration, dtype=torch.float64, requires_grad=True)
    x = PowerSpherical(loc.expand(10_000, dim), leaf).rsample()
    (gradient,) = torch.autograd.grad(x[:, 0].sum(), leaf)
    exact = torch.tensor([(dim - 1) / (concentration + dim - 1) ** 2])
    assert_mean(gradient[:, None], exact)


def test_a_given_value_moves_as_a_sample():
    concentration = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    fn = PowerSpherical(LOC, concentration)
    x = fn.rsample((50,))
    again = pathwise_at(fn, x.detach())
    torch.testing.assert_close(again, x)
    (ours,) = torch.autograd.grad(again[:, 1].sum(), concentration)
    (theirs,) = torch.autograd.grad(x[:, 1].sum(), concentration)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_needs_two_dimensions(shape):
    with pytest.raises(ValueError, match="d >= 2"):
        PowerSpherical(torch.ones(shape), 1.0)


def test_float32_stays_so_without_batch_dims():
    fn = PowerSpherical(LOC.float(), torch.tensor(3.0))
    assert fn.entropy().dtype == torch.float32 and fn.entropy().shape == ()
    kl = kl_divergence(fn, VonMisesFisher(LOC.float(), torch.tensor(3.0)))
    assert kl.dtype == torch.float32


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("concentrations", [(2.0, 12.0), (12.0, 2.0), (3.0, 0.0), (0.0, 3.0)])
def test_kl_of_two(dim, concentrations):
    """A mean over draws, and to the uniform law what the entropy lacks."""
    torch.manual_seed(dim)
    loc, other = torch.nn.functional.normalize(torch.randn(2, dim, dtype=torch.float64), dim=-1)
    p, q = (PowerSpherical(x, k) for x, k in zip((loc, other), concentrations, strict=True))
    found = kl_divergence(p, q)
    x = p.sample((100_000,))
    assert_mean((p.log_prob(x) - q.log_prob(x)).unsqueeze(-1), found.unsqueeze(0))
    if concentrations[1] == 0:
        torch.testing.assert_close(found, kl_divergence(p, VonMisesFisher(other, 0.0)))
    torch.testing.assert_close(kl_divergence(p, p), torch.zeros_like(found), atol=1e-12, rtol=0)


def test_kl_of_two_in_batches():
    loc = torch.nn.functional.normalize(
        torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    p, q = PowerSpherical(loc, torch.tensor([1.0, 5.0])), PowerSpherical(loc[0], 2.0)
    found = kl_divergence(p, q)
    assert found.shape == p.batch_shape
    with pytest.raises(ValueError, match="event"):
        kl_divergence(p, PowerSpherical(torch.eye(4)[0], 1.0))
