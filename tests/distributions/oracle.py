"""What is known exactly about a distribution, from code that is not the package's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

STEP = 1e-4
"""The relative step of numerical derivatives in a parameter."""

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Univariate:
    """A real random variable: ``frozen(**parameters)`` has ``logpdf``, ``cdf`` and ``ppf`` as in scipy.

    Parameters and values are numpy's, in float64. ``ppf`` may be left out of an own class of frozen
    distributions if it has ``rvs_range()``: an interval that holds all but 1e-12 of the mass.
    """

    frozen: Callable[..., Any]

    def log_prob(self, value: Tensor, parameters: Parameters) -> Tensor:
        return torch.as_tensor(self.frozen(**parameters).logpdf(value.numpy()))

    def cdf(self, value: Tensor, parameters: Parameters) -> Tensor:
        return torch.as_tensor(self.frozen(**parameters).cdf(value.numpy()))

    def velocity(self, value: Tensor, parameters: Parameters, name: str) -> Tensor:
        """dx/d(parameter), from a central difference of the CDF."""
        up, down, width = _neighbours(parameters, name)
        x, density = value.numpy(), self.frozen(**parameters).logpdf(value.numpy())
        slope = (self.frozen(**up).cdf(x) - self.frozen(**down).cdf(x)) / width
        return torch.as_tensor(-slope / np.exp(density))

    def features(self, parameters: Parameters) -> Features:
        low, middle, high = self.frozen(**parameters).ppf(np.array([0.2, 0.5, 0.8]))
        return Features(middle, high - low)

    def expected(self, parameters: Parameters, features: Features) -> Tensor:
        """E[features(x)], by quadrature over the quantiles."""
        u, weights = quantile_nodes
        values = torch.as_tensor(self.frozen(**parameters).ppf(u))
        return torch.as_tensor(weights) @ features(values)

    def expected_gradient(self, parameters: Parameters, name: str, features: Features) -> Tensor:
        up, down, width = _neighbours(parameters, name)
        return (self.expected(up, features) - self.expected(down, features)) / width


@dataclass(frozen=True)
class Features:
    """Bounded functions of a real value, standardised by constants."""

    centre: float
    width: float

    def __call__(self, value: Tensor) -> Tensor:
        z = (value - self.centre) / self.width
        return torch.stack([torch.tanh(z), torch.exp(-0.5 * (z - 1) ** 2), torch.sin(2 * z)], -1)


def _neighbours(parameters: Parameters, name: str) -> tuple[Parameters, Parameters, float]:
    centre = parameters[name]
    step = STEP * max(abs(centre), 0.01)
    up, down = {**parameters, name: centre + step}, {**parameters, name: centre - step}
    return up, down, up[name] - down[name]


def _quantile_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre panels on (0, 1), finer towards both ends."""
    edges = np.concatenate([[0.0], np.logspace(-9, -1, 17), np.linspace(0.15, 0.5, 8)])
    edges = np.concatenate([edges, 1 - edges[-2::-1]])
    nodes, weights = np.polynomial.legendre.leggauss(10)
    half = np.diff(edges)[:, None] / 2
    middle = (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * nodes).ravel(), (half * weights).ravel()


quantile_nodes = _quantile_nodes()


@dataclass(frozen=True)
class Joint:
    """A vector or a matrix.

    - ``log_density(value, **parameters)``, from scipy or written in plain torch;
    - ``features(value)``: numbers on the last dim, finite variance;
    - ``expectation(**parameters)``: their expectation, differentiable (float64 tensors in, one out).
    """

    log_density: Callable[..., Tensor]
    features: Callable[[Tensor], Tensor]
    expectation: Callable[..., Tensor]

    def log_prob(self, value: Tensor, parameters: Parameters) -> Tensor:
        return torch.as_tensor(self.log_density(value, **_tensors(parameters)))

    def expected_with_gradients(self, parameters: Parameters) -> tuple[Tensor, dict[str, Tensor]]:
        """The expectation, shape (J,), and its Jacobian for each parameter, shape (J, *parameter)."""
        tensors = _tensors(parameters)
        for x in tensors.values():
            x.requires_grad_()
        expected = self.expectation(**tensors)
        rows = [
            torch.autograd.grad(e, list(tensors.values()), retain_graph=True, allow_unused=True)
            for e in expected
        ]
        jacobians = {
            name: torch.stack([torch.zeros_like(x) if row[i] is None else row[i] for row in rows])
            for i, (name, x) in enumerate(tensors.items())
        }
        return expected.detach(), jacobians


def _tensors(parameters: Parameters) -> dict[str, Tensor]:
    return {name: torch.tensor(x, dtype=torch.float64) for name, x in parameters.items()}


class Numerical:
    """A frozen distribution from a density alone: CDF and quantiles by quadrature.

    For laws that scipy does not have. ``log_density`` takes and returns numpy arrays; ``low`` and
    ``high`` enclose all but 1e-12 of the mass.
    """

    def __init__(
        self,
        log_density: Callable[[np.ndarray], np.ndarray],
        low: float,
        high: float,
        panels: int = 4000,
    ) -> None:
        self._log_density, self.low, self.high, self.panels = log_density, low, high, panels

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        edges = np.linspace(self.low, self.high, self.panels + 1)
        nodes, weights = np.polynomial.legendre.leggauss(8)
        half = np.diff(edges)[:, None] / 2
        points = (edges[1:] + edges[:-1])[:, None] / 2 + half * nodes
        mass = (np.exp(self._log_density(points)) * weights * half).sum(1)
        return edges, np.concatenate([[0.0], np.cumsum(mass)])

    @property
    def total(self) -> float:
        return self._table[1][-1]

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return self._log_density(np.asarray(x)) - np.log(self.total)

    def pdf(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self.logpdf(x))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        edges, cumulative = self._table
        x = np.clip(np.asarray(x, dtype=float), self.low, self.high)
        panel = np.clip(np.searchsorted(edges, x) - 1, 0, self.panels - 1)
        nodes, weights = np.polynomial.legendre.leggauss(8)
        half = (x - edges[panel])[..., None] / 2
        points = edges[panel][..., None] + half * (nodes + 1)
        rest = (np.exp(self._log_density(points)) * weights * half).sum(-1)
        return (cumulative[panel] + rest) / self.total

    def ppf(self, u: np.ndarray) -> np.ndarray:
        u = np.asarray(u, dtype=float)
        low, high = np.full(u.shape, self.low), np.full(u.shape, self.high)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.cdf(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def _moment(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        edges, _ = self._table
        nodes, weights = np.polynomial.legendre.leggauss(8)
        half = np.diff(edges)[:, None] / 2
        points = (edges[1:] + edges[:-1])[:, None] / 2 + half * nodes
        return float((self.pdf(points) * function(points) * weights * half).sum())

    def mean(self) -> float:
        return self._moment(lambda x: x)

    def var(self) -> float:
        mean = self.mean()
        return self._moment(lambda x: (x - mean) ** 2)

    def entropy(self) -> float:
        return self._moment(lambda x: -self.logpdf(x))
