"""VonMises: limits, precision, and what is periodic."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import Truncated, VonMises, pathwise_at

from ..statistics import assert_mean


def test_is_pyros():
    fn = VonMises(0.3, 2.0)
    assert isinstance(fn, dist.VonMises)
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(fn.log_prob(x), dist.VonMises(0.3, 2.0).log_prob(x))
    torch.testing.assert_close(
        torch.stack([fn.mean, fn.variance]),
        torch.stack([dist.VonMises(0.3, 2.0).mean, dist.VonMises(0.3, 2.0).variance]),
    )


def test_gradient_of_the_uniform_law():
    """At concentration 0, x = loc + deviation - concentration sin(deviation) + ..."""
    concentration = torch.zeros(500, dtype=torch.float64, requires_grad=True)
    x = VonMises(0.0, concentration).rsample()
    x.sum().backward()
    torch.testing.assert_close(concentration.grad, -x.detach().sin())


@pytest.mark.parametrize("concentration", [20.0, 200.0])
def test_gradient_in_many_digits(concentration):
    """Against quadrature from -pi on many more nodes."""
    parameter = torch.tensor(concentration, dtype=torch.float64)
    leaf = parameter.expand(40).clone().requires_grad_()
    x = VonMises(0.0, leaf).rsample()
    x.sum().backward()
    nodes, weights = np.polynomial.legendre.leggauss(1200)
    mean = special.ive(1, concentration) / special.ive(0, concentration)
    for value, gradient in zip(x.tolist(), leaf.grad.tolist(), strict=True):
        half = (math.pi - abs(value)) / 2
        s = -math.pi + half * (nodes + 1)
        ratio = np.exp(concentration * (np.cos(s) - math.cos(value)))
        exact = math.copysign(half * weights @ ((np.cos(s) - mean) * ratio), -value)
        assert gradient == pytest.approx(exact, rel=1e-10)


def test_gradient_of_the_location():
    loc = torch.tensor([-4.0, 0.3, 3.0], requires_grad=True)
    x = VonMises(loc, 1.0).rsample((100,))
    (gradient,) = torch.autograd.grad(x.sum(), loc)
    assert (gradient == 100).all()


@pytest.mark.parametrize("concentration", [0.0, 1.0, 1e5])
def test_values_are_wrapped(concentration):
    loc = torch.tensor([-30.0, -3.14, 3.14, 9.0], dtype=torch.float64)
    x = VonMises(loc, concentration).sample((2000,))
    assert ((x >= -math.pi) & (x < math.pi)).all()


@pytest.mark.parametrize("concentration", [0.0, 1e-3, 2.0, 50.0, 1e4, 1e6])
def test_single_precision_keeps_the_law(concentration):
    x = VonMises(0.0, concentration).sample((20_000,)).double()
    mean = special.ive(1, concentration) / special.ive(0, concentration)
    shortfall = 1 - mean if concentration < 1e3 else 0.5 / concentration + 0.125 / concentration**2
    versine = 2 * (x / 2).sin().square()
    scaled = torch.stack([versine / shortfall, x / shortfall**0.5], -1)
    assert_mean(scaled, torch.tensor([1.0, 0.0]))


def test_a_given_value_moves_as_a_sample():
    loc = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    concentration = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    fn = VonMises(loc, concentration)
    x = fn.rsample((50,))
    again = pathwise_at(fn, x.detach())
    torch.testing.assert_close(again, x)
    weights = torch.randn(50, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(weights @ again, [loc, concentration]),
        torch.autograd.grad(weights @ x, [loc, concentration]),
    )


def test_cdf():
    x = torch.linspace(-3.1, 3.1, 30, dtype=torch.float64)
    fn = VonMises(torch.zeros(30, dtype=torch.float64), 2.0)
    expected = torch.as_tensor(stats.vonmises(2.0).cdf(x.numpy()))
    torch.testing.assert_close(fn.cdf(x), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fn.cdf(x + 2 * math.pi), 1 + fn.cdf(x))
    low = torch.full((30,), -math.pi, dtype=torch.float64)
    torch.testing.assert_close(fn.cdf(low), torch.zeros_like(low))


def test_cdf_is_differentiable():
    x = torch.tensor([-2.9, -0.4, 0.31, 2.0], dtype=torch.float64, requires_grad=True)
    loc = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    concentration = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, m, k: VonMises(m, k).cdf(x), (x, loc, concentration))
    cdf = VonMises(loc, concentration).cdf(x)
    (density,) = torch.autograd.grad(cdf.sum(), x)
    torch.testing.assert_close(density, VonMises(loc, concentration).log_prob(x).exp())


def test_gradient_of_log_prob_at_a_narrow_law():
    """At the mode it is 1 - A, which a difference of Bessel functions loses."""
    concentration = torch.tensor([1e3, 1e4, 1e6], requires_grad=True)
    VonMises(0.0, concentration).log_prob(torch.zeros(3)).sum().backward()
    expected = 0.5 / concentration.detach() + 0.125 / concentration.detach() ** 2
    torch.testing.assert_close(concentration.grad, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("other", [VonMises, dist.VonMises])
@pytest.mark.parametrize("concentration", [0.5, 40.0])
def test_kl(other, concentration):
    p = VonMises(torch.tensor(0.4, dtype=torch.float64), concentration)
    q = other(torch.tensor(-1.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64))
    x = torch.linspace(-math.pi, math.pi, 4001, dtype=torch.float64)[:-1]
    mass = p.log_prob(x).exp() * (2 * math.pi / 4000)
    expected = mass @ (p.log_prob(x) - q.log_prob(x))
    torch.testing.assert_close(kl_divergence(p, q), expected, rtol=1e-6, atol=0)


def test_entropy_of_the_uniform_law():
    assert VonMises(1.0, 0.0).entropy().item() == pytest.approx(math.log(2 * math.pi), rel=1e-6)


def test_negative_concentration():
    with pytest.raises(ValueError, match="concentration"):
        VonMises(0.0, torch.tensor(-1.0), validate_args=True)


def test_cdf_is_differentiable_at_the_mean_direction():
    x = torch.tensor([0.7, 0.7 + 2 * math.pi], dtype=torch.float64, requires_grad=True)
    loc = x.detach()[0].clone().requires_grad_()
    fn = VonMises(loc, 2.0)
    to_x, to_loc = torch.autograd.grad(fn.cdf(x).sum(), (x, loc))
    density = fn.log_prob(x).exp()
    torch.testing.assert_close(to_x, density)
    start = fn.log_prob(torch.tensor(-math.pi, dtype=torch.float64)).exp()
    torch.testing.assert_close(to_loc, (start - density).sum())


def test_kl_to_a_uniform_law():
    """What the entropy lacks of that of the circle, if the uniform law has all of it."""
    p = VonMises(torch.tensor(0.3, dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64))
    angle = torch.linspace(-math.pi, math.pi, 2001, dtype=torch.float64)[:-1].unsqueeze(-1)
    log_p = p.log_prob(angle)
    exact = (log_p.exp() * (log_p + math.log(2 * math.pi))).mean(0) * 2 * math.pi
    circle = dist.Uniform(*torch.tensor([-math.pi, math.pi], dtype=torch.float64))
    torch.testing.assert_close(kl_divergence(p, circle), exact)
    wider = dist.Uniform(*torch.tensor([-2 * math.pi, 2 * math.pi], dtype=torch.float64))
    torch.testing.assert_close(kl_divergence(p, wider), exact + math.log(2))
    assert (kl_divergence(p, dist.Uniform(-3.0, 4.0)) == math.inf).all()


@pytest.mark.parametrize(("loc", "concentration"), [(0.0, 1.0), (2.5, 3.0), (-3.0, 0.2), (7.0, 50.0)])
def test_quantiles(loc, concentration):
    """Of the arc from -pi on, wherever the mean direction is; the gradient knows of the cut there."""
    u = torch.tensor([0.0, 1e-12, 0.01, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (loc, concentration)]
    fn = VonMises(*leaves)
    x = fn.icdf(u)
    assert x[0] == -math.pi and x[-1] == math.pi and (x.diff() > 0).all()
    torch.testing.assert_close(fn.cdf(x), u, rtol=1e-9, atol=5e-16)  # floats near pi are as far apart
    inner = torch.tensor([0.2, 0.55, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, *p: VonMises(*p).icdf(u), (inner, *leaves))


def test_truncated():
    """A truncated arc: draws inside, and the density is that of the arc over its mass."""
    base = VonMises(torch.tensor(0.5, dtype=torch.float64), 2.0)
    fn = Truncated(base, -1.0, 2.0)
    x = fn.rsample((1000,))
    assert (x >= -1).all() and (x <= 2).all()
    mass = base.cdf(fn.high) - base.cdf(fn.low)
    torch.testing.assert_close(fn.log_prob(x), base.log_prob(x) - mass.log())
