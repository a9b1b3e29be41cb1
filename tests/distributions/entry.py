"""One line of the registry of distributions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from .oracle import Joint, Univariate


@dataclass(frozen=True)
class Elsewhere:
    """Where other libraries stand with the gradient of this distribution, for the docs."""

    torch: str = "none"
    pyro: str = "none"
    tfp: str = "none"
    numpyro: str = "none"


@dataclass(frozen=True)
class Entry:
    """A distribution, at the points of its parameters at which it is tested.

    - ``make(**parameters)``: the distribution, from tensors;
    - ``points``: parameters as numbers or nested lists, among them those of the regimes that other
      implementations get wrong; each has an empty batch shape;
    - ``extremes``: the same, far out: samples, densities and gradients have to be finite in float32;
    - ``oracle``: what is known exactly;
    - ``sampler``: how it is drawn, in a few words, for the docs;
    - ``precision``: the relative error of the velocity dx/d(parameter), where the sampler gives the
      implicit gradient in float64; None for a sampler that is another function of its noise;
    - ``draws``: of the Monte Carlo tests;
    - ``unknown``: what raises NotImplementedError of mean, variance, mode, entropy, cdf and icdf;
    - ``hard``: whether its values are discrete;
    - ``not_scored``: parameters that ``log_prob`` does not depend on;
    - ``exempt``: tests of the contract that can't apply, and why;
    - ``no_bijection``: torch knows none from the real line to the support;
    - ``typical``: the index of the point that the documentation shows.
    """

    name: str
    make: Callable[..., TorchDistribution]
    points: tuple[dict[str, Any], ...]
    extremes: tuple[dict[str, Any], ...]
    oracle: Univariate | Joint
    sampler: str
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    precision: float | None = None
    draws: int = 10_000
    unknown: tuple[str, ...] = ()
    hard: bool = False
    not_scored: tuple[str, ...] = ()
    exempt: dict[str, str] = field(default_factory=dict)
    no_bijection: bool = False
    typical: int = 0

    def at(self, parameters: dict[str, Any], dtype: torch.dtype = torch.float64, **options: Any) -> Any:
        return self.make(**tensors(parameters, dtype), **options)


def tensors(parameters: dict[str, Any], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {name: torch.tensor(x, dtype=dtype) for name, x in parameters.items()}


def grid(**values: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """Every combination of the values."""
    return tuple(dict(zip(values, x, strict=True)) for x in itertools.product(*values.values()))
