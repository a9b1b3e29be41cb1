import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_reparam_ext.distributions.log_tails import log_tails

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
