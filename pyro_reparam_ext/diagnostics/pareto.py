"""The tail of importance weights: its Pareto shape k-hat, and weights smoothed by it."""

from __future__ import annotations

import math

import numpy as np

GOOD = 0.7
"""The k-hat up to which averages over weighted draws converge at a useful rate."""


def threshold(num_samples: int) -> float:
    r"""The largest k-hat at which so many draws suffice: :math:`\min(1 - 1 / \log_{10} S, 0.7)`.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry, 2024, Pareto smoothed importance sampling,
        https://arxiv.org/abs/1507.02646
    """
    return min(1 - 1 / math.log10(num_samples), GOOD)


def tail_shapes(log_weights: np.ndarray) -> np.ndarray:
    """k-hat of each column of log weights, shape ``(draws, *batch)``.

    Minus infinity where the largest weight is taken by all of the tail, so that there is none: of a
    guide that is exact, or of few discrete values.
    """
    return _smoothed(log_weights)[1]


def smoothed_weights(log_weights: np.ndarray) -> np.ndarray:
    """Pareto-smoothed weights that add up to 1 over the draws, in the shape of ``log_weights``."""
    return np.exp(_smoothed(log_weights)[0])


def _smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from arviz import psislw

    rows = np.moveaxis(log_weights.astype(float), 0, -1)
    draws = rows.shape[-1]
    top = rows.max(-1, keepdims=True)
    precision = 1e-6 * np.maximum(1.0, np.abs(top))  # that of log densities in float32
    flat = (rows >= top - precision).sum(-1) > _tail_length(draws)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # at ties, of what is left out
        smoothed, shapes = psislw(rows)
    plain = rows - top
    plain = plain - np.log(np.exp(plain).sum(-1, keepdims=True))
    smoothed = np.where(flat[..., None], plain, smoothed)
    return np.moveaxis(smoothed, -1, 0), np.where(flat, -np.inf, np.asarray(shapes))


def _tail_length(draws: int) -> int:
    """The largest weights that the fit uses."""
    return math.ceil(min(draws / 5, 3 * draws**0.5))
