import math

import mpmath as mp
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import kl_divergence
from torch.fx.experimental.proxy_tensor import make_fx

import pyro_reparam_ext as pre
from pyro_reparam_ext.numerics.interpolated_quantile import MANY

from ..statistics import assert_follows, assert_mean

TruncatedNormal = pre.distributions.TruncatedNormal
INF = float("inf")

BOUNDS = [
    (-1.0, 2.0),
    (-INF, INF),
    (-INF, 1.0),
    (10.0, INF),
    (20.0, INF),
    (40.0, INF),
    (-INF, -40.0),
    (10.0, 10.25),
    (-30.0, -20.0),
    (0.5, 0.5009765625),
    (-0.5, 0.5),
]
every_bound = pytest.mark.parametrize("bounds", BOUNDS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def exact_velocity(value, low, high):
    """At loc 0 and scale 1, in arbitrary precision."""
    with mp.workdps(500):
        z = mp.mpf(value)

        def survival(x):
            return mp.erfc(mp.mpf(x) / mp.sqrt(2)) / 2

        s_low, s_high = survival(low), survival(high)
        u = (s_low - survival(z)) / (s_low - s_high)
        w_low, w_high = (
            mp.mpf(0) if math.isinf(x) else share * mp.exp((z * z - mp.mpf(x) ** 2) / 2)
            for x, share in ((low, 1 - u), (high, u))
        )
        d_scale = z - sum(w * mp.mpf(x) for w, x in ((w_low, low), (w_high, high)) if w)
        return [float(x) for x in (1 - w_low - w_high, d_scale, w_low, w_high)]


@every_bound
@every_dtype
def test_velocity_in_tails(bounds, dtype):
    """Relative to 1, and in scale to the position: 40 sigma out in float32 as well."""
    eps = torch.finfo(dtype).eps
    leaves = [torch.full((40,), x, dtype=dtype, requires_grad=True) for x in (0.0, 1.0, *bounds)]
    value = TruncatedNormal(*leaves).rsample()
    gradients = torch.stack(torch.autograd.grad(value.sum(), leaves), -1)
    exact = torch.tensor([exact_velocity(x, *bounds) for x in value.tolist()], dtype=torch.float64)
    error = (gradients.double() - exact).abs().max(0).values / eps
    finite = [abs(x) for x in bounds if math.isfinite(x)]
    position = max([1.0, *finite])
    # A value is rounded to its own precision, and F moves by f * rounding.
    slack = 20 * position * max(1.0, position / 10)
    slack += 5 / (bounds[1] - bounds[0]) if bounds[1] - bounds[0] < 0.1 else 0.0
    assert (error < slack * torch.tensor([1.0, position, 1.0, 1.0])).all(), error


@every_bound
def test_mean_and_its_gradient_by_sampling(bounds):
    # In a narrow interval dE[x] / d(loc) is width**2 / 12, below the rounding of 1 in float32.
    dtype = torch.float64 if bounds[1] - bounds[0] < 0.01 else torch.float32
    loc = torch.zeros(20_000, dtype=dtype, requires_grad=True)
    value = TruncatedNormal(loc, 1.0, *bounds).rsample()
    (gradient,) = torch.autograd.grad(value.sum(), loc)
    centre = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mean = TruncatedNormal(centre, 1.0, *(torch.tensor(x).double() for x in bounds)).mean
    (exact,) = torch.autograd.grad(mean, centre)
    near = min(bounds, key=abs)
    near = near if math.isfinite(near) else 0.0
    assert_mean((value.detach().double() - near)[:, None], mean.detach()[None] - near)
    assert_mean(gradient.double()[:, None], exact[None])


@every_dtype
@pytest.mark.parametrize("bounds", [b for b in BOUNDS if b[1] - b[0] > 0.01])
def test_log_prob_and_moments(bounds, dtype):
    fn = TruncatedNormal(*(torch.tensor(x, dtype=dtype) for x in (0.0, 1.0, *bounds)))
    law = stats.truncnorm(*bounds)
    value = fn.sample((50,))
    eps = torch.finfo(dtype).eps
    exact = torch.as_tensor(law.logpdf(value.double().numpy()))
    tolerance = 200 * eps + 1e-11  # scipy's own, 40 sigma out
    torch.testing.assert_close(fn.log_prob(value).double(), exact, rtol=tolerance, atol=tolerance)
    assert float(fn.mean) == pytest.approx(law.mean(), rel=10 * tolerance, abs=tolerance)
    # scipy's own variance cancels in tails.
    assert float(fn.variance) == pytest.approx(law.var(), rel=1e-6)


@pytest.mark.parametrize("distance", [5.0, 40.0, 200.0])
def test_variance_far_out(distance):
    """1 - h (h - a) with the asymptotic series, where it cancels."""
    fn = TruncatedNormal(0.0, 1.0, distance, INF)
    with mp.workdps(60):
        fraction = mp.mpf(distance)
        for k in range(2000, 0, -1):
            fraction = distance + k / fraction
        h = fraction
        exact = float(1 - h * (h - distance))
    assert float(fn.variance) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (-INF, 1.0), (10.0, INF), (40.0, INF), (-30.0, -20.0)])
def test_moments_in_tails_to_the_last_digits(bounds):
    """Variance and entropy against mpmath, of which the closed forms cancel; with their gradients."""
    loc = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    fn = TruncatedNormal(loc, 1.0, *bounds)

    def exact(centre):
        low, high = (mp.mpf(x) - centre for x in bounds)
        start = points(low, high)[1]

        def integral(power):
            # Not of a tiny density, as the error of the rule is an absolute one.
            return mp.quad(
                lambda x: x**power * mp.exp((start - x) * (start + x) / 2), points(low, high)
            )

        mass = integral(0)
        mean, square = integral(1) / mass, integral(2) / mass
        return centre + mean, square - mean**2, mp.log(mass) + (square - start**2) / 2

    def points(low, high):
        near, side = (high, -1) if high < 0 else (low, 1) if low > 0 else (0, 0)
        beyond = [near + side * mp.mpf(t) / 40 for t in (1, 3, 8, 20, 40, 80)]
        cuts = beyond if side else [-8, -3, 0, 3, 8]
        return [low, *sorted(x for x in cuts if low < x < high), high]

    with mp.workdps(40):
        step = mp.mpf(10) ** -12
        cases = zip(exact(0), exact(step), exact(-step), strict=True)
        found = fn.mean, fn.variance, fn.entropy()
        for x, (value, above, below) in zip(found, cases, strict=True):
            assert x.item() == pytest.approx(float(value), rel=1e-12, abs=1e-12)
            (slope,) = torch.autograd.grad(x, loc)
            # A position 40 out is rounded to 1e-14, on a scale of 1/40.
            assert slope.item() == pytest.approx(float((above - below) / (2 * step)), rel=1e-9)


def test_narrow_interval_is_uniform():
    low = torch.tensor(0.5)
    fn = TruncatedNormal(0.0, 1.0, low, low + 1e-4)
    uniform = dist.Uniform(fn.low, fn.high)
    assert float(fn.variance) == pytest.approx(float(uniform.variance), rel=1e-3)
    assert float(fn.entropy()) == pytest.approx(float(uniform.entropy()), abs=1e-6)
    value = fn.sample((1000,))
    value = value[value < fn.high]  # where torch's density is 0
    torch.testing.assert_close(fn.log_prob(value), uniform.log_prob(value), rtol=0, atol=1e-4)


@every_dtype
def test_icdf_inverts_cdf(dtype):
    u = torch.tensor([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999], dtype=dtype)
    for bounds in BOUNDS[:8]:
        fn = TruncatedNormal(*(torch.tensor(x, dtype=dtype) for x in (0.0, 1.0, *bounds)))
        tolerance = 2e3 * torch.finfo(dtype).eps
        torch.testing.assert_close(fn.cdf(fn.icdf(u)).detach(), u, rtol=0, atol=tolerance)


@pytest.mark.parametrize("bounds", BOUNDS[:5])
def test_derivative_of_log_prob(bounds):
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.1, 0.8, *bounds)]
    value = TruncatedNormal(*leaves).sample((5,))
    finite = [x for x in leaves if x.isfinite()]

    def log_prob(*changed):
        given = iter(changed)
        parameters = [next(given) if x.isfinite() else x for x in leaves]
        return TruncatedNormal(*parameters, validate_args=False)._log_density(value)

    assert torch.autograd.gradcheck(log_prob, finite, rtol=1e-5)


def numerical_kl(p, q, low, high):
    def integrand(x):
        log_p = p.log_prob(torch.tensor(x, dtype=torch.float64))
        return float(log_p.exp() * (log_p - q.log_prob(torch.tensor(x, dtype=torch.float64))))

    return integrate.quad(integrand, low, high, epsabs=1e-11)[0]


def test_kl():
    def make(*parameters):
        return TruncatedNormal(*(torch.tensor(x, dtype=torch.float64) for x in parameters))

    p, q = make(0.3, 0.8, -0.5, 2.0), make(-0.4, 1.5, -1.0, INF)
    normal = dist.Normal(*(torch.tensor(x, dtype=torch.float64) for x in (1.0, 0.6)))
    for other in (q, normal):
        expected = numerical_kl(p, other, -0.5, 2.0)
        assert float(kl_divergence(p, other)) == pytest.approx(expected, rel=1e-8)
    assert kl_divergence(q, p) == INF
    assert float(kl_divergence(p, p)) == pytest.approx(0.0, abs=1e-14)
    far = make(0.0, 1.0, 40.0, INF)
    assert float(kl_divergence(far, make(1.0, 1.0, 40.0, INF))) > 0


def test_order_of_bounds():
    with pytest.raises(ValueError, match="low has to be below high"):
        TruncatedNormal(0.0, 1.0, 2.0, 1.0, validate_args=True)
    with pytest.raises(ValueError, match="low has to be below high"):
        TruncatedNormal(0.0, 1.0, 1.0, 1.0, validate_args=True)


def test_no_second_derivative():
    scale = torch.tensor(1.0, requires_grad=True)
    value = TruncatedNormal(0.0, scale, -1.0, 2.0).rsample()
    (gradient,) = torch.autograd.grad(value, scale, create_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        gradient.backward()


@pytest.mark.parametrize("function", ["log_prob", "cdf"])
@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (3.0, 5.0), (2.0, 2.0001)])
def test_a_value_far_outside_leaves_the_gradient_of_the_others(function, bounds):
    loc, scale = (torch.tensor(x, requires_grad=True) for x in (0.2, 1.0))
    fn = TruncatedNormal(loc, scale, *bounds, validate_args=False)
    inside = torch.tensor([sum(bounds) / 2])
    values = torch.cat([inside, torch.tensor([1e20, INF, -1e25, -INF])])
    result = getattr(fn, function)(values)
    outside = [-INF] * 4 if function == "log_prob" else [1.0, 1.0, 0.0, 0.0]
    assert result[1:].tolist() == outside
    gradients = torch.autograd.grad(result.clamp(min=-1e3).sum(), (loc, scale))
    exact = torch.autograd.grad(getattr(fn, function)(inside).sum(), (loc, scale))
    torch.testing.assert_close(gradients, exact)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_many_draws_are_quantiles(bounds):
    """By a polynomial, where the draws are many for each parameter: the law, and every gradient."""
    leaves = [torch.tensor(x, requires_grad=True) for x in (0.0, 1.0, *bounds)]
    value = TruncatedNormal(*leaves).rsample((MANY,))
    double = [x.detach().double() for x in leaves]
    u = TruncatedNormal(*double).cdf(value.detach().double())
    assert_follows(u, stats.uniform.cdf)
    gradients = torch.autograd.grad(value[:20].sum(), leaves)
    exact = torch.tensor([exact_velocity(x, *bounds) for x in value[:20].tolist()]).sum(0)
    position = max([1.0, *(abs(x) for x in bounds if math.isfinite(x))])
    slack = 20 * 20 * torch.finfo(torch.float32).eps * position * max(1.0, position / 10)
    slack += 20 * 1e-6 / (bounds[1] - bounds[0]) if bounds[1] - bounds[0] < 0.1 else 0.0
    error = (torch.stack(gradients) - exact).abs()
    assert (error < slack * torch.tensor([1.0, position, 1.0, 1.0])).all(), error / slack


@pytest.mark.parametrize("count", [5, MANY])
@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (3.0, INF)])
def test_gradients_of_several_functions_at_once(bounds, count):
    loc = torch.tensor(0.2, requires_grad=True)
    value = TruncatedNormal(loc, 1.0, *bounds).rsample((count,))
    weights = torch.randn(3, count)
    (at_once,) = torch.autograd.grad(value, loc, weights, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(value, loc, w, retain_graph=True)[0] for w in weights]
    torch.testing.assert_close(at_once, torch.stack(one_by_one), rtol=1e-4, atol=1e-4)


def test_many_draws_in_graphs():
    """One graph of what a compiler traces, and a recorded one that draws as the code does."""

    def draw(loc):
        return TruncatedNormal(loc, 1.0, 1.5, INF, validate_args=False).rsample((MANY,))

    torch._dynamo.reset()
    leaf = torch.tensor(0.2, requires_grad=True)
    compiled = torch.compile(draw, backend="aot_eager", fullgraph=True)(leaf)
    assert compiled.isfinite().all() and (compiled >= 1.5).all()
    recorded = make_fx(draw)(torch.tensor(0.2))
    torch.manual_seed(1)
    expected = draw(torch.tensor(-3.0))
    torch.manual_seed(1)
    torch.testing.assert_close(recorded(torch.tensor(-3.0)), expected)


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (1.5, 2.0), (-1.0, -0.9)])
def test_kl_to_a_uniform_law(bounds):
    low, high = bounds
    p = TruncatedNormal(torch.tensor(0.3, dtype=torch.float64), 0.5, low, high)
    q = dist.Uniform(*torch.tensor([-1.0, 2.0], dtype=torch.float64))
    frozen = stats.truncnorm((low - 0.3) / 0.5, (high - 0.3) / 0.5, 0.3, 0.5)
    exact = math.log(3) - frozen.entropy()
    assert kl_divergence(p, q).item() == pytest.approx(float(exact), rel=1e-9)
    assert kl_divergence(p, dist.Uniform(low + 0.01, 3.0)) == INF
    assert kl_divergence(TruncatedNormal(0.0, 1.0, low, INF), q) == INF
