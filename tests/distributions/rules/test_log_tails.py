import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_reparam_ext.distributions.rules.log_tails import log_tails

FAMILIES = {
    "normal": (dist.Normal, stats.norm),
    "laplace": (dist.Laplace, stats.laplace),
    "logistic": (dist.Logistic, stats.logistic),
    "cauchy": (dist.Cauchy, stats.cauchy),
    "gumbel": (dist.Gumbel, stats.gumbel_r),
}
EPS = {torch.float32: 2e-6, torch.float64: 1e-13}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_dtype = pytest.mark.parametrize("dtype", EPS)


def pair(family, dtype):
    ours, theirs = FAMILIES[family]
    loc, scale = (torch.tensor(x, dtype=dtype) for x in (0.3, 0.7))
    return ours(loc, scale), theirs(float(loc), float(scale))


@every_family
@every_dtype
def test_log_probabilities(family, dtype):
    fn, law = pair(family, dtype)
    x = torch.tensor([-15.0, -2.0, 0.25, 0.3, 0.5, 4.0, 12.0], dtype=dtype)
    if family == "gumbel":
        x = x.clamp(min=-3.0)
    tails = log_tails(fn)
    # scipy's cauchy.logcdf is the log of a difference.
    value = x.double().numpy()
    exact = np.log(law.sf(-value + 2 * fn.loc.item())) if family == "cauchy" else law.logcdf(value)
    rtol = {"rtol": 3 * EPS[dtype], "atol": 1e-15}  # sf and cdf of scipy round to 1
    torch.testing.assert_close(tails.log_cdf(fn, x).double(), torch.as_tensor(exact), **rtol)
    exact = np.log(law.sf(value)) if family != "normal" else law.logsf(value)
    torch.testing.assert_close(tails.log_survival(fn, x).double(), torch.as_tensor(exact), **rtol)


@every_family
@every_dtype
def test_inverses(family, dtype):
    fn, _ = pair(family, dtype)
    tails = log_tails(fn)
    log_p = torch.tensor([-500.0, -80.0, -13.0, -11.0, -3.0, -1.8, -0.7, -0.1, -1e-3], dtype=dtype)
    if family == "cauchy":
        log_p = log_p.clamp(min=-80.0)
    rtol = {"rtol": 200 * EPS[dtype], "atol": 0}
    for there, back in (
        (tails.from_log_cdf, tails.log_cdf),
        (tails.from_log_survival, tails.log_survival),
    ):
        torch.testing.assert_close(back(fn, there(fn, log_p)), log_p, **rtol)


@every_family
def test_gradients_are_finite_and_right(family):
    fn, _ = pair(family, torch.float64)
    tails = log_tails(fn)
    x = torch.tensor([-3.0, 0.31, 2.0, 11.0], dtype=torch.float64, requires_grad=True)
    for function in (tails.log_cdf, tails.log_survival):
        assert torch.autograd.gradcheck(lambda x, f=function: f(fn, x), x, rtol=1e-5)


def test_exponential():
    fn = dist.Exponential(torch.tensor(2.0, dtype=torch.float64))
    tails = log_tails(fn)
    x = torch.tensor([1e-9, 0.3, 400.0], dtype=torch.float64)
    law = stats.expon(scale=0.5)
    torch.testing.assert_close(tails.log_survival(fn, x), torch.as_tensor(law.logsf(x.numpy())))
    torch.testing.assert_close(tails.log_cdf(fn, x), torch.as_tensor(law.logcdf(x.numpy())))
    torch.testing.assert_close(tails.from_log_survival(fn, tails.log_survival(fn, x)), x)
    torch.testing.assert_close(tails.from_log_cdf(fn, tails.log_cdf(fn, x[:2])), x[:2])


def test_others_by_cdf():
    fn = dist.Uniform(torch.tensor(1.0), torch.tensor(3.0))
    tails = log_tails(fn)
    x = torch.tensor([1.5, 2.0])
    torch.testing.assert_close(tails.log_cdf(fn, x), torch.tensor([0.25, 0.5]).log())
    torch.testing.assert_close(tails.log_survival(fn, x), torch.tensor([0.75, 0.5]).log())
    torch.testing.assert_close(tails.from_log_survival(fn, tails.log_survival(fn, x)), x)


@pytest.mark.parametrize(
    "make, law",
    [
        (dist.HalfNormal, stats.halfnorm(scale=0.7)),
        (dist.HalfCauchy, stats.halfcauchy(scale=0.7)),
        (lambda scale: dist.LogNormal(torch.zeros_like(scale), scale), stats.lognorm(0.7)),
        (lambda scale: dist.Weibull(scale, 2.0), stats.weibull_min(2.0, scale=0.7)),
        (lambda scale: dist.Pareto(scale, 2.0), stats.pareto(2.0, scale=0.7)),
        # By a decreasing transform of a number, and of a tensor.
        (
            lambda scale: dist.TransformedDistribution(
                dist.HalfNormal(torch.ones_like(scale)), [dist.transforms.AffineTransform(0.0, -scale)]
            ),
            None,
        ),
        (
            lambda scale: dist.TransformedDistribution(
                dist.HalfNormal(scale), [dist.transforms.AffineTransform(0.0, -1.0)]
            ),
            None,
        ),
    ],
)
@every_dtype
def test_half_and_transformed(make, law, dtype):
    fn = make(torch.tensor(0.7, dtype=dtype))
    tails = log_tails(fn)
    half = stats.halfnorm(scale=0.7)
    levels = np.array([1e-20, 1e-6, 0.1, 0.49])
    if law is None:
        x = -np.concatenate([half.isf(levels), half.ppf(levels)])
        logs = half.logsf, half.logcdf
    else:
        x = np.concatenate([law.ppf(levels), law.isf(levels)])
        logs = law.logcdf, law.logsf
    value = torch.as_tensor(x, dtype=dtype)
    if isinstance(fn, dist.Pareto):
        value = value[1 if dtype == torch.float64 else 2 :]  # at 1e-20 the value rounds to the bound
    rtol = {"rtol": 1e-5 if dtype == torch.float32 else 1e-9, "atol": 1e-6}
    exact = (-value if law is None else value).double().numpy()
    for function, back, log in (
        (tails.log_cdf, tails.from_log_cdf, logs[0]),
        (tails.log_survival, tails.from_log_survival, logs[1]),
    ):
        log_p = function(fn, value)
        torch.testing.assert_close(log_p.double(), torch.as_tensor(log(exact)), **rtol)
        far = log_p < -0.01
        assert far.sum() >= 4
        torch.testing.assert_close(back(fn, log_p)[far], value[far], rtol=1e-4, atol=0)


def test_only_what_is_closed_says_that_it_is_exact():
    one = torch.tensor(1.0)
    assert log_tails(dist.LogNormal(one, one)).exact
    assert not log_tails(dist.Uniform(0.0, one)).exact
    shift = dist.transforms.AffineTransform(one, one)
    assert not log_tails(dist.TransformedDistribution(dist.Uniform(0.0, one), [shift])).exact
