"""LogGamma, Gamma, GeneralizedGamma, LogBeta, Beta, LogDirichlet, Dirichlet."""

import numpy as np
import torch
from scipy import special, stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry, grid
from ..oracle import Joint, Univariate


def log_gamma(concentration, rate):
    return stats.loggamma(c=concentration, loc=-np.log(rate))


class LogBeta:
    """From scipy's Beta; quantiles by bisection, since those of scipy underflow."""

    def __init__(self, concentration1, concentration0):
        self.a, self.b = concentration1, concentration0

    def logpdf(self, y):
        rest = (self.b - 1) * np.log(-np.expm1(y))
        return self.a * y + rest - special.betaln(self.a, self.b)

    def cdf(self, y):
        y = np.asarray(y)
        leading = np.exp(self.a * y - special.betaln(self.a, self.b)) / self.a
        upper = special.betainc(self.b, self.a, -np.expm1(y))
        return np.where(y < -50, leading, np.where(y > -0.1, 1 - upper, self._middle(y)))

    def _middle(self, y):
        return special.betainc(self.a, self.b, np.exp(y))

    def ppf(self, u):
        u = np.asarray(u, dtype=float)
        # Over the logarithm of -y.
        low, high = np.full(u.shape, -700.0), np.full(u.shape, np.log(1e6 / self.a))
        for _ in range(80):
            middle = (low + high) / 2
            above = self.cdf(-np.exp(middle)) > u
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return -np.exp((low + high) / 2)

    def mean(self):
        return special.digamma(self.a) - special.digamma(self.a + self.b)

    def var(self):
        return special.polygamma(1, self.a) - special.polygamma(1, self.a + self.b)

    def entropy(self):
        return stats.beta(self.a, self.b).entropy() - self.mean()


def dirichlet_log_density(value, concentration):
    constant = torch.lgamma(concentration.sum()) - torch.lgamma(concentration).sum()
    return ((concentration - 1) * value.log()).sum(-1) + constant


def log_dirichlet_log_density(value, concentration):
    """That of x, times the Jacobian of its first K - 1 logarithms."""
    constant = torch.lgamma(concentration.sum()) - torch.lgamma(concentration).sum()
    return ((concentration - 1) * value).sum(-1) + value[..., :-1].sum(-1) + constant


def moments(x):
    """First and second moments of the first two components and of the last."""
    return torch.stack([x[..., 0], x[..., -1], x[..., 0] * x[..., 1], x[..., 0] ** 2], -1)


def dirichlet_moments(concentration):
    a, total = concentration, concentration.sum()
    second = total * (total + 1)
    return torch.stack([a[0] / total, a[-1] / total, a[0] * a[1] / second, a[0] * (a[0] + 1) / second])


def log_dirichlet_moments(concentration):
    a, total = concentration, concentration.sum()
    mean = torch.digamma(a) - torch.digamma(total)
    covariance = -torch.polygamma(1, total)
    variance = torch.polygamma(1, a[0]) + covariance
    return torch.stack([mean[0], mean[-1], mean[0] * mean[1] + covariance, mean[0] ** 2 + variance])


CONCENTRATIONS = (
    {"concentration": [0.3, 1.0, 2.5]},
    {"concentration": [20.0, 0.5, 7.0, 3.0]},
    {"concentration": [0.2, 0.1]},
)
FAR_CONCENTRATIONS = (
    {"concentration": [1e-4, 1e-4, 1e-4]},
    {"concentration": [1e-3, 1.0, 1e5]},
    {"concentration": [1e6, 1e-2]},
    {"concentration": [66575.0, 66575.0]},
)


ENTRIES = (
    Entry(
        "LogGamma",
        pre.distributions.LogGamma,
        points=grid(concentration=(0.01, 0.6, 3.0, 50.0), rate=(0.5,)),
        extremes=grid(concentration=(1e-4, 0.3, 1.0, 1e6), rate=(1e-6, 1.0, 1e6)),
        typical=2,
        oracle=Univariate(log_gamma),
        sampler="Gamma, below 1 by a power of a uniform; implicit gradient",
        elsewhere=Elsewhere(tfp="as ExpGamma, implicit gradient"),
        precision=1e-6,
        unknown=(),
    ),
    Entry(
        "Gamma",
        pre.distributions.Gamma,
        points=grid(concentration=(0.1, 0.6, 3.0, 50.0), rate=(0.5,)),
        extremes=grid(concentration=(1e-4, 0.01, 1.0, 1e6), rate=(1e-6, 1.0, 1e6)),
        typical=2,
        oracle=Univariate(lambda concentration, rate: stats.gamma(concentration, scale=1 / rate)),
        sampler="as LogGamma",
        elsewhere=Elsewhere(
            torch="implicit, to about 1e-3; wrong below concentrations of 0.05 in float32",
            pyro="as torch",
            tfp="implicit gradient",
            numpyro="implicit gradient",
        ),
        precision=1e-6,
        unknown=(),
    ),
    Entry(
        "GeneralizedGamma",
        pre.distributions.GeneralizedGamma,
        points=(
            *grid(concentration=(0.5, 4.0), power=(0.7, 3.0), scale=(2.0,)),
            {"concentration": 0.1, "power": 1.0, "scale": 0.5},
        ),
        extremes=(
            *grid(concentration=(1e-4, 0.3, 1e4), power=(0.2, 1.0, 50.0), scale=(1e-3, 1e3)),
            *grid(concentration=(1e-4, 0.3), power=(0.05,), scale=(1e-3, 1e3)),
        ),
        typical=3,
        oracle=Univariate(
            lambda concentration, power, scale: stats.gengamma(concentration, power, scale=scale)
        ),
        sampler="a power of Gamma, in log space; implicit gradient",
        precision=1e-6,
        unknown=(),
    ),
    Entry(
        "Beta",
        pre.distributions.Beta,
        points=(
            *grid(concentration1=(0.3, 3.0), concentration0=(0.6, 20.0)),
            {"concentration1": 0.2, "concentration0": 0.1},
            {"concentration1": 300.0, "concentration0": 40.0},
        ),
        extremes=grid(
            concentration1=(1e-4, 0.1, 1.0, 66575.0, 1e6), concentration0=(1e-4, 0.1, 1.0, 66575.0, 1e6)
        ),
        typical=2,
        oracle=Univariate(
            lambda concentration1, concentration0: stats.beta(concentration1, concentration0)
        ),
        sampler="quotient of Gammas, in log space; implicit gradient",
        elsewhere=Elsewhere(
            torch="implicit, to about 1e-2; wrong for small and for large concentrations",
            pyro="as torch",
            tfp="through Gamma draws",
            numpyro="implicit gradient",
        ),
        precision=1e-6,
        unknown=(),
    ),
    Entry(
        "LogBeta",
        pre.distributions.LogBeta,
        points=(
            *grid(concentration1=(0.02, 3.0), concentration0=(0.1, 20.0)),
            {"concentration1": 0.3, "concentration0": 1.5},
        ),
        extremes=grid(concentration1=(1e-4, 0.1, 1.0, 1e6), concentration0=(1e-4, 0.1, 1.0, 1e6)),
        typical=4,
        oracle=Univariate(LogBeta),
        sampler="as Beta",
        precision=1e-6,
        unknown=(),
    ),
    Entry(
        "Dirichlet",
        pre.distributions.Dirichlet,
        points=CONCENTRATIONS,
        extremes=FAR_CONCENTRATIONS,
        typical=1,
        oracle=Joint(dirichlet_log_density, moments, dirichlet_moments),
        sampler="as LogDirichlet",
        elsewhere=Elsewhere(
            torch="implicit, to about 1e-2; wrong for small concentrations",
            pyro="as torch",
            tfp="through Gamma draws",
            numpyro="implicit gradient",
        ),
    ),
    Entry(
        "LogDirichlet",
        pre.distributions.LogDirichlet,
        points=CONCENTRATIONS,
        extremes=FAR_CONCENTRATIONS,
        typical=1,
        oracle=Joint(log_dirichlet_log_density, moments, log_dirichlet_moments),
        sampler="quotients of Gammas, in log space; implicit gradient",
    ),
)
