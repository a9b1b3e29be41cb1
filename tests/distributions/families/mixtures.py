"""Mixtures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from scipy import special, stats
from torch import Tensor

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry
from ..oracle import Joint, Univariate


class Frozen:
    """A mixture of scipy's frozen distributions."""

    def __init__(self, logits: Any, components: Any) -> None:
        self.log_weights = special.log_softmax(np.asarray(logits, dtype=float))
        self.components = components

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        terms = [w + c.logpdf(x) for w, c in zip(self.log_weights, self.components, strict=True)]
        return special.logsumexp(np.stack(terms), axis=0)

    def _mixed(self, values: list[Any]) -> Any:
        return sum(w * v for w, v in zip(np.exp(self.log_weights), values, strict=True))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return self._mixed([c.cdf(x) for c in self.components])

    def ppf(self, u: np.ndarray) -> np.ndarray:
        quantiles = np.stack([c.ppf(u) for c in self.components])
        low, high = quantiles.min(0), quantiles.max(0)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.cdf(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def mean(self) -> float:
        return float(self._mixed([c.mean() for c in self.components]))

    def var(self) -> float:
        return float(self._mixed([c.var() + c.mean() ** 2 for c in self.components])) - self.mean() ** 2


# One scalar for each argument, that all components depend on: the velocity is then known exactly.


def _normals(logits: Tensor, loc: Tensor, scale: Tensor, **options: Any) -> Any:
    logits, loc, scale = torch.broadcast_tensors(logits, loc, scale)
    return pre.distributions.MixtureSameFamily(
        dist.Categorical(logits=torch.stack([0 * logits, logits, -logits], -1), **options),
        dist.Normal(
            torch.stack([loc, loc.square(), 1 - loc], -1),
            torch.stack([scale, scale.sqrt(), 1.5 * scale], -1),
            **options,
        ),
        **options,
    )


def _frozen_normals(logits: float, loc: float, scale: float) -> Frozen:
    locs, scales = (loc, loc**2, 1 - loc), (scale, scale**0.5, 1.5 * scale)
    components = [stats.norm(m, s) for m, s in zip(locs, scales, strict=True)]
    return Frozen((0, logits, -logits), components)


def _inverse_gaussians(logits: Tensor, loc: Tensor, concentration: Tensor, **options: Any) -> Any:
    logits, loc, concentration = torch.broadcast_tensors(logits, loc, concentration)
    return pre.distributions.MixtureSameFamily(
        dist.Categorical(logits=torch.stack([0 * logits, logits], -1), **options),
        pre.distributions.InverseGaussian(
            torch.stack([loc, 2 * loc], -1),
            torch.stack([concentration, concentration.sqrt()], -1),
            **options,
        ),
        **options,
    )


def _frozen_inverse_gaussians(logits: float, loc: float, concentration: float) -> Frozen:
    pairs = ((loc, concentration), (2 * loc, concentration**0.5))
    return Frozen((0, logits), [stats.invgauss(m / c, scale=c) for m, c in pairs])


# Vectors


def _positive_vectors(logits: Tensor, loc: Tensor, concentration: Tensor, **options: Any) -> Any:
    components = pre.distributions.InverseGaussian(loc, concentration, **options)
    return pre.distributions.MixtureSameFamily(
        dist.Categorical(logits=logits, **options), components.to_event(1), **options
    )


def _positive_log_density(value: Tensor, logits: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    x = value.unsqueeze(-2)
    exponent = concentration * (x - loc).square() / (loc.square() * x)
    return _log_mixture(logits, 0.5 * ((concentration / (2 * math.pi * x**3)).log() - exponent))


def _positive_features(value: Tensor) -> Tensor:
    return torch.stack([value[..., -1], value[..., 0] * value[..., 1], (-value.sum(-1)).exp()], -1)


def _positive_expectation(logits: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    exponent = concentration / loc * (1 - (1 + 2 * loc.square() / concentration).sqrt())
    given = [loc[:, -1], loc[:, 0] * loc[:, 1], exponent.sum(-1).exp()]
    return logits.softmax(-1) @ torch.stack(given, -1)


def _features(value: Tensor) -> Tensor:
    total = value.sum(-1)
    return torch.stack([value[..., -1], value[..., 0] * value[..., 1], total.sin(), total.cos()], -1)


def _expectation(logits: Tensor, loc: Tensor, damping: Tensor) -> Tensor:
    """Of the features; ``damping`` is the modulus of the characteristic function of each coordinate."""
    total, damping = loc.sum(-1), damping.prod(-1)
    given = [loc[:, -1], loc[:, 0] * loc[:, 1], damping * total.sin(), damping * total.cos()]
    return logits.softmax(-1) @ torch.stack(given, -1)


def _log_mixture(logits: Tensor, log_density: Tensor) -> Tensor:
    return (logits.log_softmax(-1) + log_density.sum(-1)).logsumexp(-1)


def _normal_log_density(
    value: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    variance = coord_scale.square()
    exponent = (value.unsqueeze(-2) - locs).square() / variance + (2 * math.pi * variance).log()
    return _log_mixture(component_logits, -0.5 * exponent)


def _normal_expectation(locs: Tensor, coord_scale: Tensor, component_logits: Tensor) -> Tensor:
    damping = (-0.5 * coord_scale.square()).exp().expand(locs.shape)
    return _expectation(component_logits, locs, damping)


NORMALS = Joint(_normal_log_density, _features, _normal_expectation)
FIVE = [[0.3, -0.5, 1.0, 0.0, 0.4], [1.0, 0.5, -0.3, 0.8, -0.6], [-0.7, 0.2, 0.1, -0.9, 0.5]]

MIXTURE = Elsewhere(
    torch="no gradient",
    pyro="no gradient",
    tfp="implicit gradient, with reparameterize=True",
    numpyro="no gradient",
)

ENTRIES = (
    Entry(
        "MixtureSameFamily",
        _normals,
        points=(
            {"logits": 0.3, "loc": 0.4, "scale": 1.0},
            {"logits": -1.0, "loc": 2.0, "scale": 0.5},
        ),
        extremes=(
            {"logits": 0.0, "loc": 1e3, "scale": 1e-3},
            {"logits": 30.0, "loc": 1e8, "scale": 1.0},
            {"logits": -80.0, "loc": 0.0, "scale": 1e12},
            {"logits": 1.0, "loc": 3.0, "scale": 1e-6},
        ),
        oracle=Univariate(_frozen_normals),
        sampler="a draw of one component; distributional transform",
        elsewhere=MIXTURE,
        precision=1e-6,
        unknown=("entropy", "mode"),
    ),
    Entry(
        "MixtureSameFamily-positive",
        _inverse_gaussians,
        points=({"logits": 0.5, "loc": 1.2, "concentration": 2.0},),
        extremes=(
            {"logits": 0.0, "loc": 1e3, "concentration": 1e-3},
            {"logits": 3.0, "loc": 1.0, "concentration": 1e6},
            {"logits": -40.0, "loc": 1e-3, "concentration": 1.0},
        ),
        oracle=Univariate(_frozen_inverse_gaussians),
        sampler="a draw of one component; distributional transform",
        elsewhere=MIXTURE,
        precision=1e-6,
        unknown=("entropy", "mode"),
    ),
    Entry(
        "MixtureSameFamily-vector",
        _positive_vectors,
        points=(
            {
                "logits": [0.2, -0.4, 0.5],
                "loc": [[0.5, 1.0], [1.5, 0.7], [1.0, 2.5]],
                "concentration": [[1.0, 0.5], [0.7, 1.2], [3.0, 8.0]],
            },
        ),
        extremes=(
            {
                "logits": [0.0, 1.0],
                "loc": [[1.0, 1e3], [1e3, 1e-3]],
                "concentration": [[1e-3, 1.0], [1.0, 1e3]],
            },
            {
                "logits": [80.0, 0.0],
                "loc": [[1.0, 1.0], [1.0, 1.1]],
                "concentration": [[1e6, 1.0], [1.0, 1e-3]],
            },
        ),
        oracle=Joint(_positive_log_density, _positive_features, _positive_expectation),
        sampler="a draw of one component; distributional transform, coordinate by coordinate",
        elsewhere=MIXTURE,
        unknown=("entropy", "mode"),
    ),
    Entry(
        "MixtureOfDiagNormals",
        pre.distributions.MixtureOfDiagNormals,
        points=(
            {
                "locs": [[0.5, 0.5], [0.5, 2.0]],  # on a line that does not pass through 0
                "coord_scale": [[1.0, 1.0], [1.0, 1.0]],
                "component_logits": [0.3, -0.3],
            },
            {
                "locs": FIVE,
                "coord_scale": [[1.0, 0.8, 0.5, 1.2, 0.7], [0.6] * 5, [0.9, 0.9, 1.1, 0.5, 0.4]],
                "component_logits": [0.0, 0.5, -0.5],
            },
            {"locs": [[0.3, 1.0]], "coord_scale": [[2.0, 0.3]], "component_logits": [0.7]},
        ),
        extremes=(
            {
                "locs": [[0.0, 1e3], [1e3, -5.0]],
                "coord_scale": [[1e-3, 1.0], [1.0, 1e3]],
                "component_logits": [0.0, 1.0],
            },
            {
                "locs": [[0.0, 1.0], [1.0, 0.0]],
                "coord_scale": [[1e6, 1.0], [1.0, 1e-6]],
                "component_logits": [80.0, 0.0],
            },
        ),
        oracle=NORMALS,
        sampler="a draw of one component; distributional transform, coordinate by coordinate",
        elsewhere=Elsewhere(pyro="biased in the logits", tfp="implicit gradient, as MixtureSameFamily"),
        unknown=("entropy", "mode"),
    ),
    Entry(
        "MixtureOfDiagNormalsSharedCovariance",
        pre.distributions.MixtureOfDiagNormalsSharedCovariance,
        points=(
            {
                "locs": [[0.5, 0.5], [0.5, 2.0]],
                "coord_scale": [1.0, 1.0],
                "component_logits": [0.3, -0.3],
            },
            {
                "locs": FIVE,
                "coord_scale": [1.0, 0.8, 0.5, 1.2, 0.7],
                "component_logits": [0.0, 0.5, -0.5],
            },
        ),
        extremes=(
            {
                "locs": [[0.0, 1e3], [1e3, -5.0]],
                "coord_scale": [1e-3, 1e3],
                "component_logits": [0.0, 80.0],
            },
            {
                "locs": [[0.0, 1e3], [1.0, -5.0]],
                "coord_scale": [1e6, 1e-6],
                "component_logits": [0.0, 1.0],
            },
        ),
        oracle=NORMALS,
        sampler="a draw of one component; distributional transform, coordinate by coordinate",
        elsewhere=Elsewhere(pyro="biased in the logits", tfp="implicit gradient, as MixtureSameFamily"),
        unknown=("entropy", "mode"),
    ),
)
