"""Moments of truncated laws against mpmath, and where they are refused."""

import mpmath as mp
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.quantile_quadrature import expected, shares

Truncated = pre.distributions.Truncated
INF = float("inf")


def square(z):
    return -mp.log1p(z * z)


def logistic(z):
    return -abs(z) - 2 * mp.log1p(mp.exp(-abs(z)))


def gamma(x, a, b):
    return (a - 1) * mp.log(x) - b * x


def beta(x, a, b):
    return (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x)


def pareto(x, scale, c):
    return -(1 + 1 / c) * mp.log1p(c * x / scale)


def triangular(x, peak, high):
    return mp.log(x / peak if x < peak else (high - x) / (high - peak))


LAWS = {
    "normal": (dist.Normal, lambda x, a, b: -(((x - a) / b) ** 2) / 2, (0.3, 0.7)),
    "logistic": (dist.Logistic, lambda x, a, b: logistic((x - a) / b), (0.3, 0.7)),
    "laplace": (dist.Laplace, lambda x, a, b: -abs(x - a) / b, (0.3, 0.7)),
    "cauchy": (dist.Cauchy, lambda x, a, b: square((x - a) / b), (0.3, 0.7)),
    "gumbel": (dist.Gumbel, lambda x, a, b: -(x - a) / b - mp.exp(-(x - a) / b), (0.3, 0.7)),
    "exponential": (lambda a, b: dist.Exponential(a * b), lambda x, a, b: -a * b * x, (0.5, 1.4)),
    "gamma": (pre.distributions.Gamma, gamma, (0.4, 1.3)),
    "beta": (pre.distributions.Beta, beta, (0.4, 2.5)),
    "pareto": (lambda s, c: pre.distributions.GeneralizedPareto(0.0, s, c), pareto, (1.0, 0.4)),
    "triangular": (lambda p, h: pre.distributions.Triangular(0.0, h, p), triangular, (0.4, 1.0)),
}
CASES = [
    ("normal", (-0.6, 1.5)),
    ("normal", (0.5, INF)),
    ("logistic", (-INF, 0.1)),
    ("logistic", (20.0, 21.0)),
    ("laplace", (-0.6, 1.5)),
    ("laplace", (2.0, INF)),
    ("cauchy", (20.0, 21.0)),
    ("gumbel", (0.5, INF)),
    ("exponential", (0.2, INF)),
    ("gamma", (-INF, 0.7)),
    ("beta", (0.2, 0.7)),
    ("pareto", (0.2, INF)),
    ("triangular", (0.2, 0.7)),
]


def exactly(log_density, low, high, parameters):
    def density(x):
        return mp.exp(log_density(x, *parameters))

    # With the first parameter, at which there may be a kink.
    inner = (1e-12, 1e-6, 1e-3, 0.1, 0.6, 1, 3, 5, 10, 15, 21, 30, 40, 60, 100, 200, parameters[0])
    points = [low, *sorted(x for x in inner if low < x < high), high]
    mass = mp.quad(density, points)
    mean = mp.quad(lambda x: x * density(x), points) / mass
    variance = mp.quad(lambda x: (x - mean) ** 2 * density(x), points) / mass
    energy = mp.quad(lambda x: density(x) * log_density(x, *parameters), points) / mass
    return mean, variance, mp.log(mass) - energy


@pytest.mark.parametrize(("name", "bounds"), CASES)
def test_against_mpmath(name, bounds):
    make, log_density, numbers = LAWS[name]
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers]
    fn = Truncated(make(*leaves), *bounds)
    low, high = fn.support.lower_bound.item(), fn.support.upper_bound.item()
    with mp.workdps(25):
        given, step = [mp.mpf(x) for x in numbers], mp.mpf(10) ** -8
        exact = exactly(log_density, low, high, given)
        # Along one direction of both parameters.
        up, down = (exactly(log_density, low, high, [x + s * step for x in given]) for s in (1, -1))
    found = fn.mean, fn.variance, fn.entropy()
    for x, y, above, below in zip(found, exact, up, down, strict=True):
        assert x.item() == pytest.approx(float(y), rel=1e-11, abs=1e-11)
        slope = sum(torch.autograd.grad(x, leaves, retain_graph=True)).item()
        assert slope == pytest.approx(float((above - below) / (2 * step)), rel=1e-9, abs=1e-9)


def test_a_heavy_tail_has_no_moment():
    """In the elements that are open towards it alone, and as far as its index goes."""
    high = torch.tensor([INF, 50.0])
    cauchy = Truncated(dist.Cauchy(0.0, 1.0), 0.0, high)
    for moment in (cauchy.mean, cauchy.variance):
        assert moment.isnan().tolist() == [True, False]
    assert cauchy.entropy().isfinite().all()
    # At 0.97 it has one, to fewer digits: what lies beyond the last node is 3e-5 of it.
    index = torch.tensor([0.3, 0.7, 0.97, 1.2])
    pareto = Truncated(pre.distributions.GeneralizedPareto(0.0, 1.0, index), 1.0, INF)
    assert pareto.mean.isnan().tolist() == [False, False, True, True]
    assert pareto.variance.isnan().tolist() == [False, True, True, True]


def test_a_base_without_an_upper_quantile_of_its_own():
    def cdf(x, rate):
        return -torch.expm1(-rate * x)

    class Ours(dist.Exponential):
        def cdf(self, value):
            return cdf(value, self.rate)

        def icdf(self, value):
            return -torch.log1p(-value) / self.rate

    fn = Truncated(Ours(torch.tensor(2.0, dtype=torch.float64)), 1.0, INF)
    assert fn.mean.item() == pytest.approx(1.5, rel=1e-12)
    assert fn.variance.item() == pytest.approx(0.25, rel=1e-10)


def test_a_kink_that_is_not_known_is_refused():
    class Ours(dist.Laplace):
        def log_prob(self, value):
            return super().log_prob(value)

    fn = Truncated(Ours(torch.tensor(0.3), 0.7), -1.0, 1.5)
    assert fn.mean.isnan() and fn.variance.isnan() and fn.entropy().isnan()


def test_single_precision_is_that_of_double():
    single, double = (
        Truncated(dist.Normal(torch.zeros(2, dtype=dtype), 1.0), 30.0, INF)
        for dtype in (torch.float32, torch.float64)
    )
    for name in ("mean", "variance"):
        found = getattr(single, name)
        assert found.dtype is torch.float32
        torch.testing.assert_close(found, getattr(double, name).float())


def test_parts_of_an_interval():
    """A cut at a share of 0.3: log u and log(1 - u) belong together, and the weights are all of it."""
    cut = torch.tensor(0.3, dtype=torch.float64)
    nodes = shares(cut, (cut, 1 - cut))
    torch.testing.assert_close(nodes.log_u.exp() + nodes.log_rest.exp(), torch.ones_like(nodes.log_u))
    found = expected(nodes.weights * (nodes.log_u.exp() - cut).abs(), nodes.weights, 1.0)
    torch.testing.assert_close(found, torch.tensor(0.29, dtype=torch.float64), rtol=1e-13, atol=0)
