"""StudentT: few degrees of freedom, many, and values whose square overflows."""

import math

import mpmath
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre

from ..statistics import assert_follows, assert_mean

StudentT = pre.distributions.StudentT
DF = [0.01, 0.1, 0.4, 1.0, 5.0, 15.9, 16.1, 1e3, 1e6]
dtypes = pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float64, 1e-11), (torch.float32, 3e-6)]
)


def leaf(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype, requires_grad=True)


def log_density(y, df):
    constant = mpmath.loggamma((df + 1) / 2) - mpmath.loggamma(df / 2) - mpmath.log(df * mpmath.pi) / 2
    return constant - (df + 1) / 2 * mpmath.log1p(y**2 / df)


@dtypes
def test_log_prob_and_its_gradients(dtype, precision):
    for df in DF:
        for y in (0.0, 1e-10, 1e-3, 1.0, 10.0, 1e6, 1e19, 3e38):
            df_, y_ = leaf(df, dtype), leaf(y, dtype)
            ours = StudentT(df_).log_prob(y_)
            d_df, d_y = torch.autograd.grad(ours, [df_, y_])
            with mpmath.workdps(60):
                n, x = mpmath.mpf(df_.item()), mpmath.mpf(y_.item())
                exact = log_density(x, n)
                spread = mpmath.digamma((n + 1) / 2) - mpmath.digamma(n / 2) - 1 / n
                power = (n + 1) * x**2 / (n * (n + x**2)) - mpmath.log1p(x**2 / n)
                slope = -(n + 1) * x / (n + x**2)
            assert abs(ours.item() - exact) < precision * max(1, abs(exact)), (df, y)
            scale = max(abs(spread), abs(power)) / 2
            assert abs(d_df.item() - (spread + power) / 2) < precision * scale, (df, y)
            assert abs(d_y.item() - slope) <= precision * abs(slope), (df, y)


@dtypes
def test_entropy_and_its_gradient(dtype, precision):
    def entropy(n):
        half = mpmath.digamma((n + 1) / 2) - mpmath.digamma(n / 2)
        return (n + 1) / 2 * half - log_density(mpmath.mpf(0), n)

    for df in DF:
        df_ = leaf(df, dtype)
        ours = StudentT(df_).entropy()
        (slope,) = torch.autograd.grad(ours, df_)
        with mpmath.workdps(60):
            exact = float(entropy(mpmath.mpf(df_.item())))
            exact_slope = float(mpmath.diff(entropy, mpmath.mpf(df_.item())))
        assert ours.item() == pytest.approx(exact, rel=precision)
        assert slope.item() == pytest.approx(exact_slope, rel=precision)


def cdf(y, n):
    tail = mpmath.betainc(n / 2, 0.5, 0, n / (n + y * y), regularized=True) / 2
    return tail if y < 0 else 1 - tail


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 5e-8), (torch.float32, 1e-6)])
@pytest.mark.parametrize("df", [0.01, 0.4, 2.0, 30.0, 1e6])
def test_cdf_and_the_implicit_gradient(df, dtype, precision):
    for y in (1e-6, 0.5, -3.0, 6.0):
        df_, y_ = leaf(df, dtype), leaf(y, dtype)
        with mpmath.workdps(70):
            n, x = mpmath.mpf(df_.item()), mpmath.mpf(y_.item())
            exact = cdf(x, n)
            slope = mpmath.diff(lambda n, x=x: cdf(x, n), n, h=n / 10**12)
            density = mpmath.exp(log_density(x, n))
        fn = StudentT(df_)
        ours = fn.cdf(y_)
        d_df, d_y = torch.autograd.grad(ours, [df_, y_])
        assert ours.item() == pytest.approx(float(exact), rel=precision)
        assert d_df.item() == pytest.approx(float(slope), rel=precision)
        assert d_y.item() == pytest.approx(float(density), rel=precision)
        (velocity,) = torch.autograd.grad(pre.distributions.pathwise_at(fn, y_), df_)
        assert velocity.item() == pytest.approx(float(-slope / density), rel=precision)


def features(x):
    """Bounded even at a Cauchy's tails, and steep where a heavy tail lies."""
    z = torch.asinh(x)
    return torch.stack([torch.tanh(z - 0.5), torch.exp(-0.5 * (z / 3) ** 2)], -1)


@pytest.mark.parametrize("df", [0.05, 0.4, 1.0, 2.0])
def test_few_degrees_of_freedom(df):
    """E[g(x)] moves with df as the quadrature of g(x) d f / d df says; torch's draws are NaN at .4."""
    leaves = torch.full((20_000,), df, dtype=torch.float64, requires_grad=True)
    value = features(StudentT(leaves).rsample())
    samples = [torch.autograd.grad(v.sum(), leaves, retain_graph=True)[0] for v in value.unbind(-1)]
    # In s = log |x|; the grid reaches far into both tails.
    s = torch.linspace(-40, 40 + 40 / df, 400_001, dtype=torch.float64)
    x = s.clamp(max=700).exp()
    parameter = leaf(df)
    log_prob = StudentT(parameter).log_prob(x[:, None])
    step = (s[1] - s[0]).item()
    weights = (log_prob[:, 0] + s.clamp(max=700)).exp() * step
    weights = torch.where(s < 700, weights, torch.zeros_like(weights))
    exact = [
        torch.autograd.grad((weights * (g(x) + g(-x))).sum(), parameter, retain_graph=True)[0]
        for g in (lambda x: features(x)[:, 0], lambda x: features(x)[:, 1])
    ]
    assert_mean(torch.stack(samples, 1), torch.stack(exact))


def test_law_for_few_degrees_of_freedom():
    value = StudentT(torch.tensor(0.1, dtype=torch.float64)).sample((20_000,))
    assert_follows(value, stats.t(df=0.1).cdf)


def test_large_draws_are_cut_with_finite_gradients():
    df = leaf(0.01, torch.float32)
    value = StudentT(df).rsample((1000,))
    largest = torch.finfo(torch.float32).max
    assert (value.detach().abs() == largest).float().mean() > 0.1
    assert (value.detach().abs() < 1e30).any()
    (slope,) = torch.autograd.grad(value.sum(), df)
    assert slope.isfinite() and slope != 0


def test_derives_from_pyros_and_agrees_with_it():
    ours, theirs = StudentT(5.0, 1.0, 2.0), dist.StudentT(5.0, 1.0, 2.0)
    assert isinstance(ours, dist.StudentT)
    value = torch.linspace(-20.0, 20.0, 9)
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value), rtol=1e-5, atol=1e-5)
    for df, mean, variance in ((0.5, math.nan, math.nan), (1.5, 1.0, math.inf), (3.0, 1.0, 12.0)):
        fn = StudentT(torch.tensor(df), 1.0, 2.0)
        torch.testing.assert_close(fn.mean, torch.tensor(mean), equal_nan=True)
        torch.testing.assert_close(fn.variance, torch.tensor(variance), equal_nan=True)


def second(value, *parameters):
    gradients = torch.autograd.grad(value.square().sum(), parameters, create_graph=True)
    return [
        g
        for slope in gradients
        for g in torch.autograd.grad(slope, parameters, retain_graph=True, materialize_grads=True)
    ]


@pytest.mark.parametrize("df", [0.7, 4.0, 50.0])
def test_second_derivatives_of_a_draw(df):
    """Of the polar transformation at fixed normals."""
    parameters = [leaf(x) for x in (df, 1.0, 2.0)]
    torch.manual_seed(3)
    value = StudentT(*parameters).rsample((20,))
    torch.manual_seed(3)
    normal, other = (torch.randn(20, dtype=torch.float64) for _ in range(2))
    t = (normal.square() + other.square()) / parameters[0]
    exact = parameters[1] + parameters[2] * normal * (t.expm1() / t).sqrt()
    torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(second(value, *parameters), second(exact, *parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("df", [0.01, 0.4, 4.0, 1e6])
def test_second_derivatives_in_single_precision_are_finite(df):
    for value in (1e-8, 0.3, 1e5, 1e30):
        parameters = [leaf(x, torch.float32) for x in (df, 0.0, 1.0)]
        fn = StudentT(*parameters)
        ours = second(fn.rsample((200,)).tanh(), *parameters)
        ours += second(pre.distributions.pathwise_at(fn, torch.tensor(value)).tanh(), *parameters)
        assert all(g.isfinite() for g in ours)


@pytest.mark.parametrize("y", [-3.0, 0.5, 6.0])
def test_second_derivatives_of_the_cdf(y):
    """In the value, f'(x); in df, and both, against differences of the first."""
    x, *parameters = (leaf(v) for v in (y, 4.0, 0.2, 1.5))

    def gradient(*leaves):
        x, *parameters = leaves
        return torch.autograd.grad(StudentT(*parameters).cdf(x), leaves, create_graph=True)

    leaves = x, *parameters
    ours = torch.stack(
        [torch.stack(torch.autograd.grad(g, leaves, retain_graph=True)) for g in gradient(*leaves)]
    )
    step = 1e-5
    for i, changed in enumerate(leaves):
        ends = []
        for sign in (1, -1):
            moved = [(v + sign * step * (v is changed)).detach().requires_grad_() for v in leaves]
            ends.append(torch.stack(gradient(*moved)).detach())
        exact = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(ours[:, i], exact, rtol=1e-6, atol=1e-9)
