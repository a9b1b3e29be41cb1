"""What ImplicitUnivariate can take, how precise it is, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from pyro.distributions import constraints
from scipy import integrate, stats

from pyro_reparam_ext.distributions import ImplicitUnivariate, pathwise_at

from ..statistics import assert_follows
from .families.implicit_univariate import (
    cosine,
    from_both,
    from_cdf,
    from_cosine,
    from_gamma,
    from_quartic,
    gamma,
    normal_cdf,
)
from .oracle import Numerical, Univariate

DOUBLE = torch.float64
LEVELS = np.concatenate([np.logspace(-9, -1, 9), np.linspace(0.2, 0.8, 4), 1 - np.logspace(-1, -6, 6)])


def normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2


def student(x, df):
    return -0.5 * (df + 1) * torch.log1p(x * x / df)


def beta(x, a, b):
    return (a - 1) * x.log() + (b - 1) * torch.log1p(-x)


def two_peaks(x, first, second, width):
    return torch.logaddexp(normal(x, first, width), normal(x, second, width))


def double(**parameters):
    return {name: torch.tensor(x, dtype=DOUBLE) for name, x in parameters.items()}


def assert_quantiles(fn, law, rtol, cdf_rtol=1e-9):
    """Relative errors: of quantiles, and of the nearer tail."""
    dtype = fn._located.edges.dtype
    u = torch.tensor(LEVELS, dtype=dtype)
    exact = law.ppf(u.double().numpy())
    np.testing.assert_allclose(fn.icdf(u).detach().numpy(), exact, rtol=rtol)
    x = torch.tensor(exact, dtype=dtype)
    below = LEVELS < 0.5
    cdf = fn.cdf(x).double().numpy()
    np.testing.assert_allclose(
        cdf[below], law.cdf(x.double().numpy())[below], rtol=cdf_rtol, atol=1e-15
    )
    np.testing.assert_allclose(cdf, law.cdf(x.double().numpy()), atol=1e-6)


# What it can take


@pytest.mark.parametrize("by", [{"log_density": normal}, {"cdf": normal_cdf}])
@pytest.mark.parametrize(
    ("loc", "scale"),
    [
        (0.0, 1.0),
        (1e3, 1.0),
        (-1e6, 1.0),
        (0.3, 1e-6),
        (0.0, 1e-8),
        (3e10, 1e8),
        (1e-12, 1e-15),
        (1e8, 1e-3),
    ],
)
def test_one_peak_of_any_width_and_place(by, loc, scale):
    fn = ImplicitUnivariate(double(loc=loc, scale=scale), **by)
    rounding = 1e-15 * abs(loc) / scale
    u = torch.tensor(LEVELS, dtype=DOUBLE)
    z = (fn.icdf(u).detach().numpy() - loc) / scale
    np.testing.assert_allclose(z, stats.norm.ppf(LEVELS), rtol=1e-8, atol=1e-8 + 10 * rounding)
    torch.testing.assert_close(fn.mean, torch.tensor(loc, dtype=DOUBLE), rtol=1e-9, atol=1e-9 * scale)
    torch.testing.assert_close(fn.variance.sqrt(), torch.tensor(scale, dtype=DOUBLE), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("loc", "scale"), [(0.0, 1.0), (1e3, 1.0), (-1e4, 1.0), (0.0, 1e-8), (3e10, 1e8), (1e-12, 1e-15)]
)
def test_one_peak_in_float32(loc, scale):
    fn = ImplicitUnivariate(
        {"loc": torch.tensor(loc), "scale": torch.tensor(scale)}, log_density=normal
    )
    u = torch.tensor(LEVELS, dtype=torch.float32)
    exact = stats.norm(float(np.float32(loc)), float(np.float32(scale))).ppf(u.double().numpy())
    error = np.abs(fn.icdf(u).double().numpy() - exact)
    assert (error <= 1e-4 * scale + 3e-7 * abs(loc)).all()


@pytest.mark.parametrize("second", [-1.0, -0.7, 0.2])
@pytest.mark.parametrize("ratio", [1.0, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("size", [1e-2, 1.0, 1e4])
def test_two_peaks_are_both_found(size, ratio, second):
    width = ratio * size * (1 - second)
    fn = ImplicitUnivariate(
        double(first=size, second=second * size, width=width), log_density=two_peaks
    )
    middle = torch.tensor(0.5 * size * (1 + second), dtype=DOUBLE)
    assert float(fn.cdf(middle)) == pytest.approx(0.5, abs=1e-9)
    assert float(fn.mean) == pytest.approx(float(middle), abs=1e-9 * size)


@pytest.mark.parametrize("df", [0.5, 1.0, 3.0, 30.0])
def test_heavy_tails(df):
    assert_quantiles(
        ImplicitUnivariate(double(df=df), log_density=student), stats.t(df), rtol=2e-6, cdf_rtol=1e-8
    )


@pytest.mark.parametrize(("concentration", "rate"), [(0.1, 1.0), (0.3, 1e3), (2.0, 1e-4), (1e4, 1.0)])
def test_a_half_line(concentration, rate):
    fn = from_gamma(**double(concentration=concentration, rate=rate))
    assert_quantiles(fn, stats.gamma(concentration, scale=1 / rate), rtol=1e-8, cdf_rtol=1e-8)


def reflected(x, concentration, rate):
    return gamma(2 - x, concentration, rate)


def test_a_half_line_downwards():
    fn = ImplicitUnivariate(
        double(concentration=3.0, rate=2.0), log_density=reflected, support=constraints.less_than(2.0)
    )
    assert float(fn.mean) == pytest.approx(2 - 1.5, rel=1e-9)
    x = fn.sample((1000,))
    assert_follows(2 - x, stats.gamma(3, scale=0.5).cdf)


@pytest.mark.parametrize(("a", "b"), [(0.1, 3.0), (2.0, 3.0), (1e3, 3e3)])
def test_the_unit_interval(a, b):
    fn = ImplicitUnivariate(double(a=a, b=b), log_density=beta, support=constraints.unit_interval)
    assert_quantiles(fn, stats.beta(a, b), rtol=1e-8, cdf_rtol=1e-8)


def test_a_singularity_at_an_end_other_than_zero_is_cut_at_the_spacing_of_floats():
    fn = ImplicitUnivariate(double(a=2.0, b=0.5), log_density=beta, support=constraints.unit_interval)
    assert float(fn.mean) == pytest.approx(0.8, abs=1e-7)
    assert (fn.sample((1000,)) < 1).all()


@pytest.mark.parametrize("concentration", [0.0, 2.0, 40.0, -1e4])
def test_cosine_on_an_interval(concentration):
    fn = from_cosine(**double(concentration=concentration))
    peak = abs(concentration)
    oracle = Numerical(
        lambda x: concentration * np.cos(x - 0.5) - peak, -math.pi, math.pi, panels=20_000
    )
    x = fn.sample((500,))
    assert fn.support.check(x).all()
    np.testing.assert_allclose(fn.cdf(x), oracle.cdf(x.numpy()), atol=1e-9)
    np.testing.assert_allclose(fn.log_prob(x), oracle.logpdf(x.numpy()), atol=1e-6)
    np.testing.assert_allclose(fn.entropy(), oracle.entropy(), atol=1e-6)


# Gradients


@pytest.mark.parametrize(
    ("make", "frozen", "parameters"),
    [
        (from_both, lambda loc, scale: stats.logistic(loc, scale), {"loc": -3.0, "scale": 0.5}),
        (
            from_cosine,
            lambda concentration: Numerical(
                lambda x: concentration * np.cos(x - 0.5), -math.pi, math.pi
            ),
            {"concentration": 2.0},
        ),
    ],
)
def test_velocity(make, frozen, parameters):
    leaves = {k: x.expand(200).clone().requires_grad_() for k, x in double(**parameters).items()}
    value = make(**leaves).rsample()
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
    for leaf, gradient in zip(leaves, gradients, strict=True):
        exact = Univariate(frozen).velocity(value.detach(), parameters, leaf)
        torch.testing.assert_close(gradient, exact, rtol=1e-6, atol=1e-6)


def test_velocity_far_in_both_tails():
    """A normal by its log density: dx/dloc = 1 and dx/dscale = z, with relative precision."""
    z = torch.tensor([-6.0, -4.0, -1.0, 0.0, 2.0, 4.0, 6.0], dtype=DOUBLE)
    leaves = {k: x.expand(7).clone().requires_grad_() for k, x in double(loc=1e3, scale=2.0).items()}
    x = pathwise_at(ImplicitUnivariate(leaves, log_density=normal), 1e3 + 2 * z)
    d_loc, d_scale = torch.autograd.grad(x.sum(), list(leaves.values()))
    torch.testing.assert_close(d_loc, torch.ones_like(z), rtol=1e-7, atol=0)
    torch.testing.assert_close(d_scale, z, rtol=1e-7, atol=1e-9)


def test_velocity_in_float32():
    z = torch.linspace(-4.0, 4.0, 9)
    leaves = {"loc": torch.full((9,), 3.0).requires_grad_(), "scale": torch.ones(9).requires_grad_()}
    x = pathwise_at(ImplicitUnivariate(leaves, log_density=normal), 3 + z)
    d_loc, d_scale = torch.autograd.grad(x.sum(), list(leaves.values()))
    torch.testing.assert_close(d_loc, torch.ones_like(z), rtol=1e-4, atol=0)
    torch.testing.assert_close(d_scale, z, rtol=1e-4, atol=1e-4)


def scaled_only(x, scale):
    """The scale shows in the normaliser too, but not in this function's factor in front."""
    return -x / scale


def test_the_normaliser_has_its_gradient():
    scale = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    fn = ImplicitUnivariate({"scale": scale}, log_density=scaled_only, support=constraints.positive)
    x = torch.tensor([0.1, 2.0, 30.0], dtype=DOUBLE)
    torch.testing.assert_close(fn.log_prob(x), -x / 2 - math.log(2))
    for value in x:
        (slope,) = torch.autograd.grad(fn.log_prob(value), scale)
        assert float(slope) == pytest.approx(float(value) / 4 - 0.5, rel=1e-9)
    (slope,) = torch.autograd.grad(fn.rsample((1000,)).sum(), scale)
    torch.manual_seed(1)
    draws = fn.rsample((1000,))
    (slope,) = torch.autograd.grad(draws.sum(), scale)
    torch.testing.assert_close(slope, draws.detach().sum() / 2)


def test_moments_and_entropy_have_gradients():
    leaves = double(concentration=3.0, rate=2.0)
    for x in leaves.values():
        x.requires_grad_()
    fn = from_gamma(**leaves)
    reference = torch.distributions.Gamma(**leaves)
    for ours, theirs in (
        (fn.mean, reference.mean),
        (fn.variance, reference.variance),
        (fn.entropy(), reference.entropy()),
    ):
        expected = torch.autograd.grad(theirs, list(leaves.values()))
        torch.testing.assert_close(torch.autograd.grad(ours, list(leaves.values())), expected)


def test_quantiles_have_a_gradient_in_their_level():
    u = torch.tensor([0.01, 0.5, 0.9], dtype=DOUBLE, requires_grad=True)
    fn = ImplicitUnivariate(double(loc=1.0, scale=2.0), log_density=normal)
    x = fn.icdf(u)
    (slope,) = torch.autograd.grad(x.sum(), u)
    density = stats.norm(1, 2).pdf(x.detach().numpy())
    torch.testing.assert_close(slope, torch.as_tensor(1 / density))


def test_log_prob_of_a_cdf_is_its_derivative():
    leaves = double(loc=1.0, scale=2.0)
    for x in leaves.values():
        x.requires_grad_()
    x = torch.tensor([-3.0, 1.0, 9.0], dtype=DOUBLE, requires_grad=True)
    ours = from_cdf(**leaves).log_prob(x)
    theirs = torch.distributions.Normal(*leaves.values()).log_prob(x)
    torch.testing.assert_close(ours, theirs)
    inputs = [x, *leaves.values()]
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(theirs.sum(), inputs)
    )


@pytest.mark.parametrize("make", [from_quartic, from_cdf])
def test_a_second_derivative_raises(make):
    names = ("a", "b") if make is from_quartic else ("loc", "scale")
    leaves = double(**dict.fromkeys(names, 1.0))
    for x in leaves.values():
        x.requires_grad_()
    value = make(**leaves).rsample()
    gradients = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(gradients[1], list(leaves.values()))


# Shapes and errors


def test_the_search_is_not_repeated_for_an_expanded_batch():
    calls = []

    def counted(x, loc):
        calls.append(x.shape)
        return normal(x, loc, 1.0)

    fn = ImplicitUnivariate(double(loc=[0.0, 1.0]), log_density=counted)
    calls.clear()
    wider = fn.expand((1000, 2))
    assert not calls
    wider.rsample()
    panels = [shape for shape in calls if shape != (1000, 2)]
    assert panels and all(shape[:1] == (2,) and len(shape) == 2 for shape in panels)


def test_moments_of_the_quartic():
    fn = from_quartic(**double(a=2.0, b=0.1))
    weight = lambda x: np.exp(-(x**4) / 4 + 2 * x**2 + 0.1 * x)  # noqa: E731
    total = integrate.quad(weight, -8, 8, epsabs=0, epsrel=1e-12)[0]
    mean = integrate.quad(lambda x: x * weight(x), -8, 8, epsabs=0, epsrel=1e-12)[0] / total
    assert float(fn.mean) == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ImplicitUnivariate({"a": 1.0}), "log_density"),
        (lambda: ImplicitUnivariate({}, log_density=cosine), "at least one parameter"),
        (lambda: ImplicitUnivariate({"mean": 1.0}, log_density=cosine), "'mean'.*rename"),
        (
            lambda: ImplicitUnivariate({"a": 1.0}, log_density=cosine, support=constraints.simplex),
            "support",
        ),
        (
            lambda: ImplicitUnivariate(
                {"a": 1.0},
                log_density=cosine,
                support=constraints.interval(torch.tensor(0.0), torch.tensor(1.0)),
            ),
            "numbers",
        ),
        (
            lambda: ImplicitUnivariate(
                {"a": 1.0}, log_density=cosine, support=constraints.nonnegative_integer
            ),
            "support",
        ),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_no_draws_of_an_empty_batch():
    loc = torch.zeros(0, requires_grad=True)
    fn = ImplicitUnivariate({"loc": loc}, log_density=lambda x, loc: -0.5 * (x - loc).square())
    value = fn.rsample((3,))
    assert value.shape == (3, 0) and fn.cdf(value).shape == (3, 0)
    assert torch.autograd.grad(value.sum(), loc)[0].shape == (0,)
    assert fn.expand((2, 0)).rsample().shape == (2, 0)
