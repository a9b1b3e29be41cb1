"""Univariate laws as functions of noise, and expectations under them by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch import distributions as td

import pyro_reparam_ext as pre

LOW, HIGH = -1.0, 2.0
"""The bounds of the truncated normal law."""


@dataclass(frozen=True)
class Transformation:
    """A law, as a function of noise and as a density.

    Args:
        name: the law.
        formula: how it is sampled.
        at: its parameters.
        sample: one draw, differentiable, for each element of the parameters.
        log_density: a value and the parameters -> the log density.
        cdf: the distribution function, of another library.
        support: where nearly all of the mass is.
        cost: whose expectation is differentiated, and ``cost_name`` in words.
    """

    name: str
    formula: str
    at: dict[str, float]
    sample: Callable[..., Tensor]
    log_density: Callable[..., Tensor]
    cdf: Callable[[np.ndarray], np.ndarray]
    support: tuple[float, float]
    cost: Callable[[Tensor], Tensor] = torch.square
    cost_name: str = "x^2"

    def draws(self, count: int) -> tuple[Tensor, Tensor]:
        """Samples, and gradients of their cost of shape ``(draws, parameters)``."""
        copies = [torch.full((count,), v, dtype=torch.double) for v in self.at.values()]
        copies = [copy.requires_grad_() for copy in copies]
        x = self.sample(*copies)
        gradients = torch.autograd.grad(self.cost(x).sum(), copies)
        return x.detach(), torch.stack(gradients, -1)

    def exact(self) -> Tensor:
        """The gradient of the expected cost by the density alone: Gauss-Legendre on 100 pieces."""
        nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(40))
        low, high = self.support
        width = (high - low) / 100
        x = low + width * (torch.arange(100).unsqueeze(-1) + (nodes + 1) / 2)
        parameters = [torch.tensor(v, dtype=torch.double, requires_grad=True) for v in self.at.values()]
        density = self.log_density(x, *parameters).exp()
        expected = (weights * density * self.cost(x)).sum() * width / 2
        return torch.stack(torch.autograd.grad(expected, parameters))


def density_of(law: Callable[..., td.Distribution]) -> Callable[..., Tensor]:
    return lambda x, *parameters: law(*parameters).log_prob(x)


def normal(loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * torch.randn_like(loc)


def exponential(rate: Tensor) -> Tensor:
    return -torch.log1p(-torch.rand_like(rate)) / rate


def gumbel(loc: Tensor, scale: Tensor) -> Tensor:
    return loc - scale * (-torch.rand_like(loc).log()).log()


def weibull(scale: Tensor, k: Tensor) -> Tensor:
    return scale * (-torch.log1p(-torch.rand_like(scale))) ** (1 / k)


def kumaraswamy(a: Tensor, b: Tensor) -> Tensor:
    return (1 - (1 - torch.rand_like(a)) ** (1 / b)) ** (1 / a)


def truncated_normal(loc: Tensor, scale: Tensor) -> Tensor:
    low, high = (torch.special.ndtr((bound - loc) / scale) for bound in (LOW, HIGH))
    return loc + scale * torch.special.ndtri(low + (high - low) * torch.rand_like(loc))


def truncated_normal_log_density(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    low, high = (torch.special.ndtr((bound - loc) / scale) for bound in (LOW, HIGH))
    return td.Normal(loc, scale).log_prob(x) - (high - low).log()


def mixture(family: type, a: Tensor, m: Tensor, s: Tensor) -> td.Distribution:
    """sigmoid(a) N(m, s) + sigmoid(-a) N(2, 1)."""
    weights = td.Categorical(logits=torch.stack([a, torch.zeros_like(a)], -1))
    locs, scales = torch.stack([m, torch.full_like(m, 2)], -1), torch.stack([s, torch.ones_like(s)], -1)
    return family(weights, td.Normal(locs, scales))


def mixture_cdf(x: np.ndarray) -> np.ndarray:
    weight = 1 / (1 + np.exp(-0.5))
    return weight * stats.norm.cdf(x, -1.0, 0.5) + (1 - weight) * stats.norm.cdf(x, 2.0, 1.0)


def von_mises_cdf(x: np.ndarray) -> np.ndarray:
    law = stats.vonmises(2.0, loc=1.0)
    return law.cdf(x) - law.cdf(-np.pi)


IMPLICIT = "implicit: dx/dp = -(dF/dp) / density"

TRANSFORMATIONS = (
    Transformation(
        "Normal(10, 5)",
        "loc + scale e",
        {"loc": 10.0, "scale": 5.0},
        normal,
        density_of(td.Normal),
        stats.norm(10, 5).cdf,
        (-50.0, 70.0),
    ),
    Transformation(
        "Exponential(2)",
        "-log(1 - u) / rate",
        {"rate": 2.0},
        exponential,
        density_of(td.Exponential),
        stats.expon(scale=0.5).cdf,
        (0.0, 25.0),
    ),
    Transformation(
        "Gumbel(1, 2)",
        "loc - scale log(-log u)",
        {"loc": 1.0, "scale": 2.0},
        gumbel,
        lambda x, loc, scale: -(x - loc) / scale - (-(x - loc) / scale).exp() - scale.log(),
        stats.gumbel_r(1, 2).cdf,
        (-10.0, 80.0),
    ),
    Transformation(
        "Weibull(2, 1.5)",
        "scale (-log(1 - u))^(1 / k)",
        {"scale": 2.0, "k": 1.5},
        weibull,
        density_of(td.Weibull),
        stats.weibull_min(1.5, scale=2).cdf,
        (1e-12, 30.0),
    ),
    Transformation(
        "Kumaraswamy(2, 3)",
        "(1 - (1 - u)^(1 / b))^(1 / a)",
        {"a": 2.0, "b": 3.0},
        kumaraswamy,
        density_of(td.Kumaraswamy),
        lambda x: 1 - (1 - x**2) ** 3,
        (0.0, 1.0),
    ),
    Transformation(
        "Normal(1, 1.5) on [-1, 2]",
        "quantile at F(-1) + (F(2) - F(-1)) u",
        {"loc": 1.0, "scale": 1.5},
        truncated_normal,
        truncated_normal_log_density,
        stats.truncnorm(-2 / 1.5, 1 / 1.5, 1, 1.5).cdf,
        (LOW, HIGH),
    ),
    Transformation(
        "Gamma(2.5, 2)",
        IMPLICIT,
        {"concentration": 2.5, "rate": 2.0},
        lambda *p: pre.distributions.Gamma(*p).rsample(),
        density_of(td.Gamma),
        stats.gamma(2.5, scale=0.5).cdf,
        (1e-12, 40.0),
    ),
    Transformation(
        "VonMises(1, 2)",
        IMPLICIT,
        {"loc": 1.0, "concentration": 2.0},
        lambda *p: pre.distributions.VonMises(*p).rsample(),
        density_of(td.VonMises),
        von_mises_cdf,
        (-np.pi, np.pi),
        torch.cos,
        "cos x",
    ),
    Transformation(
        ".62 N(-1, .5) + .38 N(2, 1)",
        IMPLICIT,
        {"logit": 0.5, "loc": -1.0, "scale": 0.5},
        lambda *p: mixture(pre.distributions.MixtureSameFamily, *p).rsample(),
        density_of(lambda *p: mixture(td.MixtureSameFamily, *(x.unsqueeze(0) for x in p))),
        mixture_cdf,
        (-15.0, 15.0),
    ),
)
