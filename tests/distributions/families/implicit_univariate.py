"""ImplicitUnivariate: by a log density on the line and on a half-line, and by a CDF.

An interval, and both functions at once, are in ``test_implicit_univariate.py``: each entry compiles for
long.
"""

import math

import torch
from pyro.distributions import constraints
from scipy import stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry, grid
from ..oracle import Numerical, Univariate

ELSEWHERE = Elsewhere(tfp="building block: gradients of a given CDF, no sampler")


def quartic(x, a, b):
    return -(x**4) / 4 + a * x**2 + b * x


def cosine(x, concentration):
    return concentration * torch.cos(x - 0.5)


def gamma(x, concentration, rate):
    return (concentration - 1) * x.log() - rate * x


def normal_cdf(x, loc, scale):
    return torch.special.ndtr((x - loc) / scale)


def logistic(x, loc, scale):
    z = (x - loc).abs() / scale
    return -z - 2 * torch.log1p(torch.exp(-z)) - torch.log(scale)


def logistic_cdf(x, loc, scale):
    return torch.sigmoid((x - loc) / scale)


def from_quartic(a, b, validate_args=None):
    return pre.distributions.ImplicitUnivariate(
        {"a": a, "b": b}, log_density=quartic, validate_args=validate_args
    )


def from_cosine(concentration, validate_args=None):
    return pre.distributions.ImplicitUnivariate(
        {"concentration": concentration},
        log_density=cosine,
        support=constraints.interval(-math.pi, math.pi),
        validate_args=validate_args,
    )


def from_gamma(concentration, rate, validate_args=None):
    return pre.distributions.ImplicitUnivariate(
        {"concentration": concentration, "rate": rate},
        log_density=gamma,
        support=constraints.positive,
        validate_args=validate_args,
    )


def from_cdf(loc, scale, validate_args=None):
    return pre.distributions.ImplicitUnivariate(
        {"loc": loc, "scale": scale}, cdf=normal_cdf, validate_args=validate_args
    )


def from_both(loc, scale, validate_args=None):
    return pre.distributions.ImplicitUnivariate(
        {"loc": loc, "scale": scale},
        log_density=logistic,
        cdf=logistic_cdf,
        validate_args=validate_args,
    )


def entry(name, make, oracle, points, extremes):
    return Entry(
        name,
        make,
        points=points,
        extremes=extremes,
        oracle=Univariate(oracle),
        sampler="numerical inversion; implicit gradient by quadrature",
        elsewhere=ELSEWHERE,
        precision=1e-6,
        draws=2000,
        unknown=("mode",),
    )


ENTRIES = (
    entry(
        "ImplicitUnivariate",
        from_quartic,
        lambda a, b: Numerical(lambda x: quartic(x, a, b) - a * a, -9.0, 9.0),
        grid(a=(-1.0, 2.5), b=(0.4,)),
        grid(a=(-1e4, 0.0, 10.0, 100.0), b=(0.0, -3.0)),
    ),
    entry(
        "ImplicitUnivariate-positive",
        from_gamma,
        lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
        grid(concentration=(0.3, 4.0), rate=(2.0,)),
        grid(concentration=(0.2, 1.0, 1e4), rate=(1e-6, 1.0, 1e6)),
    ),
    entry(
        "ImplicitUnivariate-cdf",
        from_cdf,
        lambda loc, scale: stats.norm(loc, scale),
        grid(loc=(-1.0, 0.3), scale=(0.5,)),
        grid(loc=(-1e4, 1e-6), scale=(1.0, 1e6)),
    ),
)
