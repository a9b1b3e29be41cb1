"""Laws of directions: on the circle and on the unit sphere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry, grid
from ..oracle import Joint, Numerical, Parameters, Univariate, _neighbours

# The circle


class Circular:
    """Scipy's von Mises on one period, [-pi, pi), with circular moments."""

    def __init__(self, loc: float, concentration: float) -> None:
        self.loc, self.concentration = loc, concentration
        # Its own CDF has no more than 5 digits beyond a concentration of 50.
        self.about_zero = Numerical(stats.vonmises(concentration).logpdf, -np.pi, np.pi)

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return stats.vonmises(self.concentration, self.loc).logpdf(x)

    def from_antipode(self, x: np.ndarray) -> np.ndarray:
        periods = np.floor((x - self.loc + np.pi) / (2 * np.pi))
        return periods + self.about_zero.cdf(x - self.loc - 2 * np.pi * periods)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return self.from_antipode(x) - self.from_antipode(-np.pi)

    def ppf(self, u: np.ndarray) -> np.ndarray:
        x = self.loc + self.about_zero.ppf(u)
        return np.mod(x + np.pi, 2 * np.pi) - np.pi

    def mean(self) -> float:
        return self.loc

    def var(self) -> float:
        return 1 - special.ive(1, self.concentration) / special.ive(0, self.concentration)

    def entropy(self) -> float:
        return self.about_zero.entropy()


class OnTheCircle(Univariate):
    """Values move on the circle, about the mean direction; features are periodic."""

    def velocity(self, value: Tensor, parameters: Parameters, name: str) -> Tensor:
        if name == "loc":
            return torch.ones_like(value)
        up, down, width = _neighbours(parameters, name)
        x = value.numpy()
        density = np.exp(self.frozen(**parameters).logpdf(x))
        difference = self.frozen(**up).from_antipode(x) - self.frozen(**down).from_antipode(x)
        return torch.as_tensor(-difference / width / density)

    def features(self, parameters: Parameters) -> Harmonics:
        return Harmonics(parameters["loc"], max(1.0, parameters["concentration"]) ** 0.5)


@dataclass(frozen=True)
class Harmonics:
    loc: float
    scale: float

    def __call__(self, value: Tensor) -> Tensor:
        y = value - self.loc
        sine = self.scale * y.sin()
        return torch.stack([sine, self.scale**2 * (1 - y.cos()), torch.tanh(sine - 0.5)], -1)


# The sphere


def axis(dim: int) -> Tensor:
    """A fixed vector in no special direction."""
    return torch.linspace(-0.6, 1.0, dim, dtype=torch.float64)


def features(value: Tensor) -> Tensor:
    along = (value * axis(value.shape[-1]).to(value)).sum(-1, keepdim=True)
    return torch.cat([value, along.square()], -1)


def expectation(loc: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Of the features, from the first two moments of the cosine with ``loc``."""
    dim = len(loc)
    loc = loc / loc.norm()
    along = axis(dim) @ loc
    across = (1 - second) / (dim - 1) * (axis(dim).square().sum() - along.square())
    return torch.cat([first * loc, (second * along.square() + across)[None]])


def fisher_moments(concentration: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """By quadrature over the angle, whose density is negligible beyond its own scale."""
    nodes, weights = (torch.as_tensor(x) for x in np.polynomial.legendre.leggauss(400))
    end = min(math.pi, 12 * math.sqrt(dim / max(concentration.item(), 1e-9)))
    angle = 0.5 * end * (nodes + 1)
    log_density = concentration * (angle.cos() - 1) + (dim - 2) * angle.sin().log()
    p = torch.softmax(log_density + weights.log(), 0)
    return p @ angle.cos(), p @ angle.cos().square()


def fisher_log_density(value: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    if concentration == 0:
        dim = len(loc)
        area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
        return torch.full(value.shape[:-1], -area, dtype=torch.float64)
    law = stats.vonmises_fisher(loc.numpy(), concentration.item())
    return torch.as_tensor(law.logpdf(value.numpy()))


def power_log_density(value: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    """De Cao and Aziz, equation 8."""
    beta = (len(loc) - 1) / 2
    alpha = beta + concentration
    normaliser = (
        (alpha + beta) * math.log(2)
        + beta * math.log(math.pi)
        + torch.lgamma(alpha)
        - torch.lgamma(alpha + beta)
    )
    return concentration * torch.log1p(value @ loc) - normaliser


def power_expectation(loc: Tensor, concentration: Tensor) -> Tensor:
    beta = (len(loc) - 1) / 2
    alpha = beta + concentration
    total = alpha + beta
    first = (alpha - beta) / total
    return expectation(loc, first, first.square() + 4 * alpha * beta / (total.square() * (total + 1)))


def directions(*dims: int) -> list[list[float]]:
    """Unit vectors: the first axis of 3 dimensions, and one in no special direction of each."""
    general = [torch.linspace(1, -0.4, d, dtype=torch.float64) for d in dims]
    return [[1.0, 0.0, 0.0]] + [(x / x.norm()).tolist() for x in general]


SPHERICAL = grid(loc=directions(2, 3, 5), concentration=(0.0, 2.0, 50.0)) + grid(
    loc=directions(40)[1:], concentration=(30.0,)
)
EXTREME = grid(
    loc=[[0.6, 0.8], [0.0, -1.0, 0.0], [1.0] + [0.0] * 499], concentration=(0.0, 1e-4, 1.0, 1e3, 1e6)
)

ENTRIES = (
    Entry(
        "VonMises",
        pre.distributions.VonMises,
        points=grid(loc=(0.3, -2.5), concentration=(0.1, 2.0, 20.0, 200.0)),
        extremes=grid(loc=(0.0, 3.0), concentration=(0.0, 1e-6, 1e-3, 1.0, 50.0, 1e4, 1e6, 1e9)),
        draws=4000,
        typical=1,
        oracle=OnTheCircle(Circular),
        sampler="inversion in a fixed number of steps; implicit gradient by quadrature",
        elsewhere=Elsewhere(
            torch="no gradient", pyro="no gradient", tfp="implicit gradient", numpyro="in loc only"
        ),
        precision=1e-6,
    ),
    Entry(
        "VonMisesFisher",
        pre.distributions.VonMisesFisher,
        points=SPHERICAL,
        extremes=EXTREME,
        draws=4000,
        typical=1,
        no_bijection=True,
        oracle=Joint(
            fisher_log_density,
            features,
            lambda loc, concentration: expectation(loc, *fisher_moments(concentration, len(loc))),
        ),
        sampler="inversion in a fixed number of steps; implicit gradient by quadrature",
        elsewhere=Elsewhere(tfp="for d = 3; raises in other dimensions on JAX"),
    ),
    Entry(
        "PowerSpherical",
        pre.distributions.PowerSpherical,
        points=SPHERICAL,
        extremes=EXTREME,
        draws=4000,
        typical=1,
        no_bijection=True,
        oracle=Joint(power_log_density, features, power_expectation),
        sampler="Beta angle; implicit gradient",
        elsewhere=Elsewhere(tfp="implicit gradient; NaN for d = 2 on JAX"),
    ),
)
