import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from scipy import stats

import pyro_reparam_ext as pre

from ..statistics import assert_follows

Truncated, TruncatedNormal = pre.distributions.Truncated, pre.distributions.TruncatedNormal
INF = float("inf")


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (4.0, INF), (-INF, -3.0), (8.0, 9.0), (-INF, INF)])
def test_normal_agrees_with_truncated_normal(bounds):
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.2, 0.9, *bounds)]
    special = TruncatedNormal(*leaves)
    general = Truncated(dist.Normal(*leaves[:2]), *leaves[2:])
    value = special.sample((20,))
    torch.testing.assert_close(general.log_prob(value), special.log_prob(value), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(general.cdf(value), special.cdf(value), rtol=1e-8, atol=1e-10)
    finite = [x for x in leaves if x.isfinite()]
    for a, b in zip(
        torch.autograd.grad(general._at(value).sum(), finite),
        torch.autograd.grad(special._at(value).sum(), finite),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


FAMILIES = [dist.Normal, dist.Logistic, dist.Laplace, dist.Cauchy, dist.Gumbel]


TAILS = [(-1.0, 2.0), (25.0, INF), (25.0, 26.0), (90.0, 95.0), (0.5, 0.7)]


@pytest.mark.parametrize(
    ("family", "bounds"),
    # 120 sigma out is for TruncatedNormal, which takes no difference of log-probabilities.
    [(f, b) for f in FAMILIES for b in TAILS if (f, b[0]) != (dist.Normal, 90.0)],
)
def test_single_precision_in_tails(family, bounds):
    """Values and gradients against those of float64 at the same quantiles."""
    u = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.99], dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in (0.25, 0.75, *bounds)]
        fn = Truncated(family(*leaves[:2]), *leaves[2:])
        value = fn.icdf(u.to(dtype))
        finite = [x for x in leaves if x.isfinite()]
        gradients = torch.autograd.grad(fn._at(value).sum(), finite)
        results.append([value.detach().double(), *(g.double() for g in gradients)])
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single, double, rtol=2e-3, atol=6e-3)


def test_ends_of_the_support_are_no_bounds():
    rate = torch.tensor(2.0, requires_grad=True)
    low = torch.tensor(-1.0, requires_grad=True)
    fn = Truncated(dist.Exponential(rate), low, 1.5)
    value = fn.rsample((100,))
    assert (value >= 0).all() and fn.support.lower_bound == 0
    value.sum().backward()
    assert low.grad == 0 and rate.grad < 0
    whole = Truncated(dist.LogNormal(torch.tensor(0.0), torch.tensor(1.0)), -INF, INF)
    value = whole.sample((10,))
    torch.testing.assert_close(whole.log_prob(value), whole.base.log_prob(value))


def test_velocity_through_a_transform():
    """LogNormal on an interval is the exponential of a truncated normal."""
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.3, 0.7)]
    fn = Truncated(dist.LogNormal(*leaves), *torch.tensor([0.5, 1.5], dtype=torch.float64))
    value = fn.sample((30,))
    ours = torch.autograd.grad(fn._at(value).sum(), leaves)
    logs = TruncatedNormal(*leaves, *torch.tensor([0.5, 1.5], dtype=torch.float64).log())
    exact = torch.autograd.grad(logs._at(value.log()).exp().sum(), leaves)
    torch.testing.assert_close(ours, exact)


CASES = [
    ("gamma", lambda: Truncated(dist.Gamma(2.0, 1.0), 0.0, 1.0), NotImplementedError, "icdf.*Gamma"),
    ("student", lambda: Truncated(dist.StudentT(3.0), 0.0, 1.0), NotImplementedError, "cdf.*StudentT"),
    ("order", lambda: Truncated(dist.Normal(0.0, 1.0), 1.0, 0.0), ValueError, "low.*high"),
    (
        "vector",
        lambda: Truncated(dist.Normal(torch.zeros(2), 1.0).to_event(1), 0.0, 1.0),
        ValueError,
        "univariate",
    ),
]


@pytest.mark.parametrize(("name", "call", "error", "match"), CASES)
def test_errors(name, call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_shapes_follow_base_and_bounds():
    fn = Truncated(dist.Normal(torch.zeros(3, 1), 1.0), torch.tensor([-1.0, 0.0]), 1.0)
    assert fn.batch_shape == (3, 2) == fn.base.batch_shape
    assert fn.expand((4, 3, 2)).base.batch_shape == (4, 3, 2)


def test_autoguide_on_a_half_line():
    """The support of one infinite end has a bijection: a latent variable as any other."""

    def model():
        pyro.sample("x", TruncatedNormal(0.0, 1.0, torch.tensor([1.0, -INF]), INF).to_event(1))

    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    assert all(torch.isfinite(torch.tensor(svi.step())) for _ in range(5))
    assert guide()["x"][0] >= 1


def test_no_second_derivative():
    loc = torch.tensor(0.0, requires_grad=True)
    value = Truncated(dist.Normal(loc, 1.0), -1.0, 2.0).rsample()
    (gradient,) = torch.autograd.grad(value, loc, create_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        gradient.backward()


@pytest.mark.parametrize(
    "base, law, low",
    [
        (lambda o: dist.LogNormal(torch.tensor(0.0, **o), 1.0), stats.lognorm(1.0), math.exp(9)),
        (lambda o: dist.HalfNormal(torch.tensor(1.0, **o)), stats.halfnorm(), 5.0),
        (lambda o: dist.HalfCauchy(torch.tensor(1.0, **o)), stats.halfcauchy(), 1e9),
        (lambda o: dist.Weibull(torch.tensor(1.0, **o), 2.0), stats.weibull_min(2.0), 6.0),
        (lambda o: dist.Pareto(torch.tensor(1.0, **o), 2.0), stats.pareto(2.0), 1e9),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_far_upper_tail(base, law, low, dtype):
    fn = Truncated(base({"dtype": dtype}), low, INF)
    x = fn.sample((2000,))
    assert x.isfinite().all() and (x >= low).all() and x.unique().numel() > 1800
    value = x[:20].double().numpy()
    survival = torch.as_tensor(law.sf(value) / law.sf(float(fn.low)), dtype=dtype)
    rtol = {"rtol": 5e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-6, "atol": 1e-9}
    torch.testing.assert_close(1 - fn.cdf(x[:20]), survival, **rtol)
    exact = torch.as_tensor(law.logpdf(value) - law.logsf(float(fn.low)), dtype=dtype)
    torch.testing.assert_close(fn.log_prob(x[:20]), exact, **rtol)
    assert_follows(x, lambda x: 1 - law.sf(x) / law.sf(float(fn.low)))


def test_a_mass_below_the_resolution_is_nan():
    """Of a base that has quantiles of the lower tail alone."""
    base = pre.distributions.Triangular(torch.tensor(0.0), 1.0, 0.5, validate_args=False)
    fn = Truncated(base, 0.9999, 1.0, validate_args=False)
    assert fn.sample().isnan() and fn.log_prob(torch.tensor(0.99995)).isnan()
    fn = Truncated(base, 0.9, 1.0)
    assert fn.sample((1000,)).isfinite().all() and fn.log_prob(torch.tensor(0.9995)).isfinite()


def test_kumaraswamy_close_to_one():
    """Its tails are known in logarithms: a mass of 3e-14, in float32."""
    concentration = torch.tensor(2.0, requires_grad=True)
    fn = Truncated(pre.distributions.Kumaraswamy(concentration, 5.0), 0.999, 1.0)
    x = fn.rsample((1000,))
    # 1 - x is nearly a power law there: P(1 - x > t) = 1 - (t / 0.001)^5.
    assert 0.0007 < (1 - x).mean() < 0.00095
    assert fn.log_prob(torch.tensor(0.9995)).exp().item() == pytest.approx(5e3 * 0.5**4, rel=1e-2)
    assert torch.autograd.grad(x.sum(), concentration)[0].isfinite()


def test_cdf_outside_of_the_bounds():
    rate = torch.tensor(1.0, requires_grad=True)
    fn = Truncated(dist.LogNormal(rate, 1.0), 1.0, 2.0, validate_args=False)
    cdf = fn.cdf(torch.tensor([-5.0, 0.5, 3.0, INF]))
    assert cdf.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert torch.autograd.grad(cdf.sum(), rate)[0] == 0


def test_bounds_beyond_what_the_base_tells():
    """Where the mass underflows the draws would not be numbers: an error with the remedy."""
    base = pre.distributions.SkewNormal(torch.tensor(0.0).double(), 1.0, -4.0)
    with pytest.raises(ValueError, match="less of the mass of the base than.*Move the"):
        pre.distributions.Truncated(base, 30.0, 32.0).rsample((3,))
    far = pre.distributions.Truncated(dist.Normal(torch.tensor(0.0).double(), 1.0), 300.0, 302.0)
    assert ((far.rsample((100,)) - 300).abs() < 0.1).all()


@pytest.mark.parametrize(
    ("base", "low", "high"),
    [
        (pre.distributions.Beta(2.0, 3.0), 0.5, 1.0),
        (pre.distributions.Beta(2.0, 3.0), 0.0, 0.5),
        (pre.distributions.Gamma(2.0, 1.0), 0.5, INF),
        (dist.Normal(0.0, 1.0), 1.0, INF),
        (pre.distributions.StudentT(3.0), -INF, 1.0),
    ],
    ids=repr,
)
def test_quantiles_at_the_ends(base, low, high):
    fn = Truncated(base, low, high)
    assert fn.icdf(torch.tensor([0.0, 1.0])).tolist() == [low, high]
