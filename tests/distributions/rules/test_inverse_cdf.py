"""Quantiles by a search: exact in both tails, differentiable, and what they serve."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.log_tails import log_tails

from ..registry import REGISTRY

SEARCHED = (
    *("Gamma", "LogGamma", "GeneralizedGamma", "Beta", "LogBeta", "StudentT"),
    *("SkewNormal", "InverseGaussian", "ExponentiallyModifiedGaussian"),
)
SHARES = torch.tensor(
    [1e-300, 1e-100, 1e-30, 1e-10, 1e-3, 0.1, 0.5, 0.9, 1 - 1e-6, 1 - 1e-12, 1 - 2.0**-53],
    dtype=torch.float64,
)
points = pytest.mark.parametrize(
    ("name", "point"), [(name, i) for name in SEARCHED for i in range(len(REGISTRY[name].points))]
)


def log_shares(u):
    return torch.where(u > 0.5, (-u).log1p(), u.log())


@points
def test_the_mass_up_to_the_quantile(name, point):
    entry = REGISTRY[name]
    fn = entry.at(entry.points[point], validate_args=False)
    x = fn.icdf(SHARES)
    reached = torch.where(SHARES > 0.5, fn.log_survival_function(x), fn.log_cdf(x))
    kept = (x.abs() > 1e-300) & ((x < 0.999) | torch.tensor(name != "Beta"))  # else no float is there
    torch.testing.assert_close(reached[kept], log_shares(SHARES)[kept], rtol=1e-11, atol=1e-9)
    assert (x.diff() >= -1e-14 * x[1:].abs()).all()  # but for rounding


@points
def test_from_logarithms(name, point):
    """A mass that is no float any more."""
    entry = REGISTRY[name]
    fn = entry.at(entry.points[point], validate_args=False)
    tails = log_tails(fn)
    log_mass = torch.tensor([-600.0, -40.0, -2.0, -0.1, -1e-8], dtype=torch.float64)
    for quantile, mass in (
        (tails.from_log_cdf, tails.log_cdf),
        (tails.from_log_survival, tails.log_survival),
    ):
        x = quantile(fn, log_mass)
        kept = (x.abs() > 1e-300) & ((x < 0.999) | torch.tensor(name != "Beta"))
        torch.testing.assert_close(mass(fn, x)[kept], log_mass[kept], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", SEARCHED)
def test_gradients(name):
    entry = REGISTRY[name]
    point = entry.points[entry.typical]
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in point.values()]
    u = torch.tensor([0.01, 0.4, 0.97], dtype=torch.float64, requires_grad=True)

    def quantile(u, *parameters):
        return entry.make(**dict(zip(point, parameters, strict=True)), validate_args=False).icdf(u)

    assert torch.autograd.gradcheck(quantile, (u, *leaves), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SEARCHED)
def test_single_precision_and_vmap(name):
    entry = REGISTRY[name]
    fn = entry.make(**{k: torch.tensor(v) for k, v in entry.points[entry.typical].items()})
    u = torch.tensor([[1e-30, 0.2], [0.5, 0.99]])
    found = fn.icdf(u)
    assert found.dtype is torch.float32
    kept = (found < 0.999) | torch.tensor(name != "Beta")
    torch.testing.assert_close(fn.cdf(found)[kept], u[kept], rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(fn.icdf)(u), found)


def test_ends():
    ends = torch.tensor([0.0, 1.0])
    assert pre.distributions.Gamma(2.0, 1.0).icdf(ends).tolist() == [0.0, math.inf]
    assert pre.distributions.StudentT(3.0).icdf(ends).tolist() == [-math.inf, math.inf]


def test_mixtures():
    weights = dist.Categorical(torch.tensor([1.0, 3.0]).double())
    components = dist.Normal(torch.tensor([-1.0, 3.0]).double(), torch.tensor([1.0, 2.0]).double())
    fn = pre.distributions.MixtureSameFamily(weights, components)
    x = fn.icdf(SHARES)
    reached = torch.where(SHARES > 0.5, fn.log_survival_function(x), fn.log_cdf(x))
    torch.testing.assert_close(reached, log_shares(SHARES), rtol=1e-11, atol=1e-9)
    vectors = pre.distributions.MixtureSameFamily(weights, components.expand((2, 2)).to_event(1))
    with pytest.raises(NotImplementedError, match="real variables"):
        vectors.icdf(SHARES)


@pytest.mark.parametrize("name", ["Gamma", "SkewNormal", "StudentT", "InverseGaussian"])
def test_truncated_far_out(name):
    """Between two values with 1e-200 of the mass above them: draws are there, and so is the density."""
    entry = REGISTRY[name]
    base = entry.at(entry.points[entry.typical], validate_args=False)
    mass = torch.tensor([-460.0, -470.0], dtype=torch.float64)
    low, high = log_tails(base).from_log_survival(base, mass)
    fn = pre.distributions.Truncated(base, low, high)
    torch.manual_seed(0)
    x = fn.rsample((1000,))
    assert (x >= low).all() and (x <= high).all() and x.unique().numel() > 900
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64) * (high - low) + low
    total = torch.trapezoid(fn.log_prob(grid).exp(), grid)
    assert total.item() == pytest.approx(1, abs=1e-3)
    share = (fn.cdf(x) < 0.5).double().mean().item()
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / 1000)


def test_a_site_as_the_quantile_of_noise():
    def model():
        return pyro.sample("z", pre.distributions.SkewNormal(0.0, 1.0, 2.0))

    uniform = pre.reparam.InverseCDFReparam()
    trace = pyro.poutine.trace(pyro.poutine.reparam(model, config={"z": uniform})).get_trace()
    noise = [trace.nodes[name]["value"] for name in trace.stochastic_nodes if name != "z"]
    assert len(noise) == 1
    fn = pre.distributions.SkewNormal(0.0, 1.0, 2.0)
    torch.testing.assert_close(fn.cdf(trace.nodes["z"]["value"]), noise[0], rtol=1e-4, atol=1e-5)


def test_student_beyond_squares():
    """Values whose squares overflow, which laws of few degrees of freedom draw; by mpmath's betainc."""
    fn = pre.distributions.StudentT(torch.tensor(0.01).double(), validate_args=False)
    far = torch.tensor([1e160, -1e200], dtype=torch.float64)
    torch.testing.assert_close(
        fn.log_survival_function(far),
        torch.tensor([-4.407241, -0.004864]).double(),
        rtol=1e-5,
        atol=1e-6,
    )
    assert fn.cdf(far[0]).item() == pytest.approx(0.987810, abs=1e-6)
    torch.manual_seed(0)
    assert not fn.cdf(fn.rsample((5000,))).isnan().any()
    three = pre.distributions.StudentT(torch.tensor(3.0).double(), validate_args=False)
    ends = torch.tensor([-math.inf, math.inf]).double()
    assert three.log_cdf(ends).tolist() == [-math.inf, 0.0]
    assert three.log_survival_function(ends).tolist() == [0.0, -math.inf]


@pytest.mark.parametrize("name", [*SEARCHED, "VonMises", "Kumaraswamy"])
def test_what_is_no_number_stays_none(name):
    entry = REGISTRY[name]
    fn = entry.at(entry.points[entry.typical], validate_args=False)
    nothing = torch.tensor(math.nan, dtype=torch.float64)
    for function in (fn.cdf, fn.log_cdf, fn.log_survival_function, fn.icdf):
        assert function(nothing).isnan(), function.__name__


def test_integers_are_numbers():
    gamma, student = pre.distributions.Gamma(2.0, 1.0), pre.distributions.StudentT(3.0)
    assert gamma.log_cdf(torch.tensor(1)).item() == pytest.approx(-1.3309, abs=1e-4)
    exact = stats.t(3).logcdf([0, 1]).tolist()
    assert student.log_cdf(torch.arange(2)).tolist() == pytest.approx(exact, abs=1e-5)
    assert student.icdf(torch.tensor(0)).item() == -math.inf
    truncated = pre.distributions.Truncated(dist.Normal(0.0, 1.0), 0.0, 2.0)
    assert 0 < truncated.cdf(torch.tensor(1)).item() < 1
    kumaraswamy = pre.distributions.Kumaraswamy(2.0, 3.0)
    assert kumaraswamy.log_cdf(torch.tensor([0, 1])).tolist() == [-math.inf, 0.0]
    assert kumaraswamy.log_survival_function(torch.tensor([0, 1])).tolist() == [0.0, -math.inf]


def test_a_share_that_rounds_to_an_open_end():
    fn = pre.distributions.LogBeta(0.7, 0.02, validate_args=True)
    x = fn.icdf(torch.tensor([0.5, 0.99]))
    assert (x <= 0).all() and (x > -1e-14).all()
