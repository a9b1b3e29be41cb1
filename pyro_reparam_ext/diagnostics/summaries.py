"""The marginal of each coordinate of a site, from draws of the guide, with Monte Carlo errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import coordinate_support, coordinates
from ..estimators.support import has_one_support
from .guide_draws import Latent, Law

QUANTILES = {"5%": 0.05, "50%": 0.5, "95%": 0.95}
MOST_VALUES = 100
"""Values of a discrete site up to which each has a probability in the table."""
CLASSES = (torch.distributions.Categorical, torch.distributions.OneHotCategorical)
"""Distributions whose values are names, of which there is no mean."""

Row = dict[str, float]


def summaries(site: Latent) -> Iterator[tuple[tuple[str, str], Row]]:
    """The row of each coordinate, by name of the site and index."""
    parts = [probabilities(law, site.shape) for law in site.laws]
    if site.discrete and all(part is not None for part in parts):
        support = _support(site.laws[0].fn)
        probs = torch.cat([part for part in parts if part is not None])[: len(site.values)]
        yield from _of_probabilities(site, probs.double().cpu().numpy(), support)
    else:
        yield from _of_values(site)


def _key(site: Latent, place: tuple[int, ...]) -> tuple[str, str]:
    return site.name, ", ".join(map(str, place))


# -- discrete values --------------------------------------------------------------------------------


def _support(fn: TorchDistribution) -> Tensor | None:
    """The values of a coordinate, shape ``(K, *event)``; None if they are many or differ."""
    base = coordinates(fn)
    if not (base.has_enumerate_support and has_one_support(fn)):
        return None
    try:
        values = coordinate_support(base)
    except NotImplementedError:
        return None
    return values if len(values) <= MOST_VALUES else None


def probabilities(law: Law, shape: torch.Size) -> Tensor | None:
    """The probability of each value in each draw, shape ``(draws, K, *coordinates)``."""
    values, base = _support(law.fn), coordinates(law.fn)
    if values is None:
        return None
    ones = (1,) * len(base.batch_shape)
    with torch.no_grad():
        probs = base.log_prob(values.reshape(len(values), *ones, *base.event_shape)).exp()
    own = shape[: len(shape) - len(base.event_shape)]
    place = 0 if law.dim is None else 1 + len(law.fn.batch_shape) + law.dim
    if place < 1:
        return probs.reshape(1, len(values), *own).expand(law.draws, -1, *own)
    probs = probs.movedim(place, 0)
    return probs.reshape(len(probs), len(values), *own).expand(law.draws, -1, *own)


def _of_probabilities(
    site: Latent, probs: np.ndarray, support: Tensor | None
) -> Iterator[tuple[tuple[str, str], Row]]:
    draws, count = probs.shape[:2]
    named = isinstance(coordinates(site.laws[0].fn), CLASSES)
    values = None if support is None or named else support.double().cpu().numpy().reshape(count)
    labels = range(count) if values is None else [f"{value:g}" for value in values]
    for place in np.ndindex(probs.shape[2:]):
        p = probs[(slice(None), slice(None), *place)]  # shape: (draws, K)
        error = p.std(0, ddof=1) / draws**0.5
        row = dict.fromkeys(["mean", "mean_error", "sd", "sd_error"], np.nan)
        row |= {name + end: np.nan for name in QUANTILES for end in ("", "_error")}
        if values is not None:
            first, second = p @ values, p @ values**2
            mean, variance = first.mean(), max(second.mean() - first.mean() ** 2, 0.0)
            row["mean"], row["mean_error"] = mean, first.std(ddof=1) / draws**0.5
            row["sd"] = variance**0.5
            slope = (second - 2 * mean * first).std(ddof=1) / draws**0.5
            row["sd_error"] = slope / (2 * row["sd"]) if variance > 0 else 0.0
        for k, label in enumerate(labels):
            row[f"P({label})"], row[f"P({label})_error"] = p[:, k].mean(), error[k]
        yield _key(site, place), {name: float(x) for name, x in row.items()}


# -- all others -------------------------------------------------------------------------------------


def _of_values(site: Latent) -> Iterator[tuple[tuple[str, str], Row]]:
    """Mean, sd and quantiles of the draws."""
    from scipy.stats.mstats import mjci

    values = site.values.double().numpy()
    draws = len(values)
    for place in np.ndindex(values.shape[1:]):
        x = values[(slice(None), *place)]
        sd = x.std(ddof=1)
        u = (x - x.mean()) / sd if sd > 0 else np.zeros_like(x)
        row = {
            "mean": x.mean(),
            "mean_error": sd / draws**0.5,
            "sd": sd,
            "sd_error": sd * (u**2 - 1).std() / (2 * draws**0.5) if sd > 0 else 0.0,
        }
        errors = mjci(x, list(QUANTILES.values())) if sd > 0 else np.zeros(len(QUANTILES))
        for (name, q), error in zip(QUANTILES.items(), errors, strict=True):
            row[name], row[f"{name}_error"] = np.quantile(x, q), error
        yield _key(site, place), {name: float(x) for name, x in row.items()}
