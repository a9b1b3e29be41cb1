"""StudentT, Kumaraswamy, ContinuousBernoulli, GeneralizedPareto, Triangular."""

import numpy as np
from scipy import special, stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry, grid
from ..oracle import Numerical, Univariate


class Kumaraswamy:
    """Closed forms, which scipy does not have."""

    def __init__(self, concentration1, concentration0):
        self.a, self.b = concentration1, concentration0

    def logpdf(self, x):
        rest = (self.b - 1) * self._log_rest(x)
        return np.log(self.a * self.b) + special.xlogy(self.a - 1, x) + rest

    def cdf(self, x):
        return -np.expm1(self.b * self._log_rest(x))

    def _log_rest(self, x):
        """log(1 - x^a), which x near 1 would round away."""
        return np.log(-np.expm1(self.a * np.log(x)))

    def ppf(self, u):
        return (-np.expm1(np.log1p(-np.asarray(u)) / self.b)) ** (1 / self.a)

    def _moment(self, order):
        return self.b * special.beta(1 + order / self.a, self.b)

    def mean(self):
        return self._moment(1)

    def var(self):
        return self._moment(2) - self._moment(1) ** 2

    def entropy(self):
        harmonic = special.digamma(self.b + 1) - special.digamma(1)
        return 1 - 1 / self.b + (1 - 1 / self.a) * harmonic - np.log(self.a * self.b)


def continuous_bernoulli(logits):
    return Numerical(lambda x: logits * x, 0.0, 1.0, panels=200)


def triangular(low, high, peak):
    return stats.triang(c=(peak - low) / (high - low), loc=low, scale=high - low)


EDGES = (1e-30, 1e-3, 0.499, 0.5, 0.501, 0.999)
UNIFORM = "inverse CDF; implicit gradient, closed form"

ENTRIES = (
    Entry(
        "StudentT",
        pre.distributions.StudentT,
        points=(*grid(df=(4.0, 30.0), loc=(-1.0,), scale=(0.5, 2.0)),),
        extremes=grid(df=(0.01, 0.4, 1.0, 1e3, 1e6), loc=(0.0, -1e3), scale=(1e-3, 1.0, 1e4)),
        typical=2,
        oracle=Univariate(lambda df, loc, scale: stats.t(df=df, loc=loc, scale=scale)),
        sampler="polar transformation of two normals, differentiated",
        elsewhere=Elsewhere(
            torch="through a Gamma draw; NaN for df <= .4",
            pyro="as torch",
            tfp="as torch",
            numpyro="through a Gamma draw",
        ),
        unknown=(),
    ),
    Entry(
        "Kumaraswamy",
        pre.distributions.Kumaraswamy,
        points=(
            *grid(concentration1=(0.7, 3.0), concentration0=(0.6, 4.0)),
            {"concentration1": 0.2, "concentration0": 0.2},
        ),
        extremes=grid(concentration1=(1e-3, 0.2, 1.0, 1e4), concentration0=(1e-3, 0.2, 1.0, 1e4)),
        typical=3,
        oracle=Univariate(Kumaraswamy),
        sampler="inverse CDF in log space; implicit gradient, closed form",
        elsewhere=Elsewhere(
            torch="draws of 1 and log_prob NaN at small concentrations",
            pyro="as torch",
            tfp="inverse CDF",
            numpyro="inverse CDF",
        ),
        precision=1e-6,
    ),
    Entry(
        "ContinuousBernoulli",
        lambda probs, **options: pre.distributions.ContinuousBernoulli(probs=probs, **options),
        points=grid(probs=(0.02, 0.4995, 0.5, 0.51, 0.9)),
        extremes=grid(probs=EDGES),
        typical=4,
        oracle=Univariate(lambda probs: continuous_bernoulli(special.logit(probs))),
        sampler=UNIFORM,
        elsewhere=Elsewhere(torch="0 for |probs - .5| < .001", pyro="as torch", tfp="0 near .5"),
        precision=1e-6,
    ),
    Entry(
        "ContinuousBernoulli-logits",
        lambda logits, **options: pre.distributions.ContinuousBernoulli(logits=logits, **options),
        points=grid(logits=(-30.0, -0.6, 0.0, 1e-4, 0.4, 8.0)),
        extremes=grid(
            logits=(-1e10, -1e4, -50.0, -1e-6, -1e-38, 0.0, 1e-20, 1e-6, 0.5, 1.0, 50.0, 1e4)
        ),
        oracle=Univariate(continuous_bernoulli),
        sampler=UNIFORM,
        precision=1e-6,
    ),
    Entry(
        "GeneralizedPareto",
        pre.distributions.GeneralizedPareto,
        points=grid(loc=(0.7,), scale=(1.5,), concentration=(-0.7, -0.2, -1e-3, 0.0, 1e-5, 0.2, 0.45)),
        extremes=grid(
            loc=(0.0, -1e3),
            scale=(1e-3, 1.0, 1e4),
            concentration=(-1e4, -10.0, -1.0, -1e-6, 0.0, 1e-20, 1e-6, 1.0, 10.0),
        ),
        typical=5,
        oracle=Univariate(
            lambda loc, scale, concentration: stats.genpareto(c=concentration, loc=loc, scale=scale)
        ),
        sampler=UNIFORM,
        elsewhere=Elsewhere(torch="0 in concentration at 0", pyro="as torch", tfp="as torch"),
        precision=1e-6,
    ),
    Entry(
        "Triangular",
        pre.distributions.Triangular,
        points=(
            {"low": 0.0, "high": 1.0, "peak": 0.3},
            {"low": -4.9, "high": 0.1, "peak": 0.0},
            {"low": 0.0, "high": 0.5, "peak": 0.01},
        ),
        extremes=(
            *grid(low=(-1e4, 0.0), high=(1e-3, 1.0, 1e6), peak=(0.0, 1e-3, 1e-4)),
            {"low": 1.0, "high": 1.001, "peak": 1.001},
            {"low": -1e20, "high": 1e20, "peak": 1e20},
            {"low": 0.0, "high": 1e-25, "peak": 0.0},
        ),
        oracle=Univariate(triangular),
        sampler=UNIFORM,
        elsewhere=Elsewhere(tfp="inverse CDF"),
        precision=1e-6,
    ),
)
