"""TruncatedNormal and Truncated; SkewNormal, ExponentiallyModifiedGaussian."""

import numpy as np
import pyro.distributions as dist
from scipy import stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry, grid
from ..oracle import Univariate

INF = float("inf")


class _TruncatedNormal:
    """scipy's law, with the moments by quadrature where scipy's entropy is NaN (infinite bounds)."""

    def __init__(self, loc, scale, low, high):
        self._law = stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)
        for name in ("logpdf", "cdf", "ppf", "mean", "var"):
            setattr(self, name, getattr(self._law, name))

    def entropy(self):
        low, high = self._law.ppf([1e-15, 1 - 1e-15])
        nodes, weights = np.polynomial.legendre.leggauss(200)
        x = low + (high - low) * (nodes + 1) / 2
        log_density = self._law.logpdf(x)
        return -(np.exp(log_density) * log_density) @ weights * (high - low) / 2


class _Truncated:
    """A law of scipy between two bounds, from the end that is nearer in probability."""

    def __init__(self, law, low, high):
        self.law, self.low, self.high = law, low, high
        self.upper = law.sf(low) < law.cdf(high)
        self.mass = law.sf(low) - law.sf(high) if self.upper else law.cdf(high) - law.cdf(low)

    def logpdf(self, x):
        return self.law.logpdf(x) - np.log(self.mass)

    def cdf(self, x):
        part = (
            self.law.sf(self.low) - self.law.sf(x)
            if self.upper
            else self.law.cdf(x) - self.law.cdf(self.low)
        )
        return np.clip(part / self.mass, 0, 1)

    def ppf(self, u):
        if self.upper:
            return self.law.isf(self.law.sf(self.low) - u * self.mass)
        return self.law.ppf(self.law.cdf(self.low) + u * self.mass)

    def _expected(self, function):
        nodes, weights = np.polynomial.legendre.leggauss(200)
        x = self.low + (self.high - self.low) * (nodes + 1) / 2
        return (np.exp(self.logpdf(x)) * function(x)) @ weights * (self.high - self.low) / 2

    def mean(self):
        return self._expected(lambda x: x)

    def var(self):
        mean = self.mean()
        return self._expected(lambda x: (x - mean) ** 2)

    def entropy(self):
        return self._expected(lambda x: -self.logpdf(x))


def _truncated(
    name, family, law, points, extremes, sampler="inverse CDF in log space; implicit gradient"
):
    return Entry(
        f"Truncated-{name}",
        family,
        points=points,
        extremes=extremes,
        oracle=Univariate(law),
        sampler=sampler,
        elsewhere=Elsewhere(tfp="normal and Cauchy only", numpyro="inverse CDF, of five families"),
        precision=1e-6,
    )


def _logistic(loc, scale, low, high, **options):
    return pre.distributions.Truncated(dist.Logistic(loc, scale, **options), low, high, **options)


def _cauchy(loc, scale, low, high, **options):
    return pre.distributions.Truncated(dist.Cauchy(loc, scale, **options), low, high, **options)


def _gumbel(loc, scale, low, high, **options):
    return pre.distributions.Truncated(dist.Gumbel(loc, scale, **options), low, high, **options)


def _kumaraswamy(a, b, low, high, **options):
    base = pre.distributions.Kumaraswamy(a, b, **options)
    return pre.distributions.Truncated(base, low, high, **options)


class _Kumaraswamy:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def logpdf(self, x):
        power = np.log1p(-(x**self.a))
        return np.log(self.a * self.b) + (self.a - 1) * np.log(x) + (self.b - 1) * power

    def sf(self, x):
        return (1 - x**self.a) ** self.b

    def cdf(self, x):
        return 1 - self.sf(x)

    def isf(self, u):
        return (1 - u ** (1 / self.b)) ** (1 / self.a)

    def ppf(self, u):
        return self.isf(1 - u)


BOUNDS = grid(loc=(0.3,), scale=(0.7,), low=(-0.6,), high=(1.5,)) + (
    {"loc": 0.3, "scale": 0.7, "low": 2.0, "high": 2.7},
)
FAR = grid(loc=(0.0,), scale=(1e-3, 1.0, 1e3), low=(-5.0,), high=(3.0,)) + (
    {"loc": -30.0, "scale": 1.0, "low": 0.0, "high": INF},
    {"loc": 30.0, "scale": 1.0, "low": -INF, "high": 28.0},
    {"loc": 1.0, "scale": 2.0, "low": 0.5, "high": 0.5001},
)

ENTRIES = (
    Entry(
        "TruncatedNormal",
        pre.distributions.TruncatedNormal,
        points=(
            {"loc": 0.3, "scale": 0.8, "low": -0.5, "high": 2.0},
            {"loc": -4.0, "scale": 0.7, "low": 0.0, "high": 0.4},
            {"loc": 4.0, "scale": 0.5, "low": 0.5, "high": 1.0},
            {"loc": 0.5, "scale": 2.0, "low": 0.45, "high": 0.65},
        ),
        extremes=grid(loc=(0.0,), scale=(1e-4, 1.0, 1e6), low=(-3.0, -INF), high=(2.0, INF))
        + grid(loc=(-10.0, -40.0, -1e4), scale=(1.0,), low=(0.0,), high=(0.5, INF))
        + grid(loc=(10.0, 40.0, 1e4), scale=(1.0,), low=(-1e3, -INF), high=(0.0,))
        + grid(loc=(0.0, -20.0), scale=(1.0,), low=(0.5,), high=(0.5 + 1e-6, 0.51)),
        oracle=Univariate(_TruncatedNormal),
        sampler="inverse CDF, in log space in the tails; implicit gradient, closed form",
        elsewhere=Elsewhere(
            tfp="implicit gradient; NaN 6 sigma out in float32",
            numpyro="inverse CDF; infinite 13 sigma out in float32",
        ),
        precision=1e-6,
    ),
    _truncated(
        "logistic",
        _logistic,
        lambda loc, scale, low, high: _Truncated(stats.logistic(loc, scale), low, high),
        BOUNDS,
        FAR,
    ),
    _truncated(
        "cauchy",
        _cauchy,
        lambda loc, scale, low, high: _Truncated(stats.cauchy(loc, scale), low, high),
        BOUNDS,
        FAR,
    ),
    _truncated(
        "gumbel",
        _gumbel,
        lambda loc, scale, low, high: _Truncated(stats.gumbel_r(loc, scale), low, high),
        BOUNDS,
        tuple(p for p in FAR if p["scale"] >= 1),
    ),
    _truncated(
        "kumaraswamy",
        _kumaraswamy,
        lambda a, b, low, high: _Truncated(_Kumaraswamy(a, b), low, high),
        grid(a=(1.5,), b=(2.5,), low=(0.2,), high=(0.7,)),
        grid(a=(1.5,), b=(0.5, 30.0), low=(-INF, 0.2), high=(0.3, INF)),
        sampler="inverse CDF; implicit gradient",
    ),
    Entry(
        "SkewNormal",
        pre.distributions.SkewNormal,
        points=grid(loc=(0.4,), scale=(0.7,), skewness=(-4.0, 0.0, 1.5)),
        extremes=grid(loc=(0.0,), scale=(1e-3, 1e3), skewness=(-1e6, -1e-6, 0.0, 30.0, 1e10)),
        oracle=Univariate(lambda loc, scale, skewness: stats.skewnorm(skewness, loc, scale)),
        sampler="function of two normals; implicit gradient, closed form",
        precision=1e-6,
        unknown=("entropy",),
    ),
    Entry(
        "ExponentiallyModifiedGaussian",
        pre.distributions.ExponentiallyModifiedGaussian,
        points=grid(loc=(0.4,), scale=(0.5, 2.0), rate=(0.3, 4.0)),
        extremes=grid(loc=(0.0,), scale=(1e-3, 1.0, 1e4), rate=(1e-4, 1.0, 1e5)),
        oracle=Univariate(
            lambda loc, scale, rate: stats.exponnorm(1 / (scale * rate), loc=loc, scale=scale)
        ),
        sampler="normal + exponential; implicit gradient, closed form",
        elsewhere=Elsewhere(tfp="gradient of the sum"),
        precision=1e-6,
        unknown=("entropy",),
    ),
)
