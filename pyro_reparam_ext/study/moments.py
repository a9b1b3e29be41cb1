"""Mean and variance of gradient draws, accumulated chunk by chunk in double precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from torch import Tensor


@dataclass(eq=False)
class Moments:
    """Count, mean and summed squared deviations per coordinate, and what their total scatters."""

    count: int = 0
    mean: dict[str, np.ndarray] = field(default_factory=dict)
    squares: dict[str, np.ndarray] = field(default_factory=dict)
    pilot: dict[str, Tensor] = field(default_factory=dict)
    distances: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, chunk: dict[str, Tensor]) -> None:
        """Adds draws, which lie on the leftmost dim."""
        before = self.count
        for name, draws in chunk.items():
            size, flat = len(draws), draws.detach().reshape(len(draws), -1)
            shifted = flat - flat[0]  # draws without variance stay so
            center = shifted.mean(0)
            deviations, center = shifted.sub_(center), flat[0] + center
            squared = deviations.square()
            mean = _double(center).reshape(draws.shape[1:])
            squares = _double(squared.sum(0)).reshape(draws.shape[1:])
            if name not in self.mean:
                self.mean[name], self.squares[name] = mean, squares
                self.pilot[name], self.distances[name] = center, []
            else:
                shift = mean - self.mean[name]
                total = before + size
                self.mean[name] = self.mean[name] + shift * (size / total)
                self.squares[name] += squares + np.square(shift) * (before * size / total)
            offset = center - self.pilot[name]
            distances = squared.sum(1) + 2 * (deviations @ offset) + offset.square().sum()
            self.distances[name].append(_double(distances))
            self.count = before + size

    def flat_mean(self, names: list[str]) -> np.ndarray:
        return np.concatenate([self.mean[name].ravel() for name in names])

    def flat_variance(self, names: list[str]) -> np.ndarray:
        """Unbiased variance per coordinate; 0 for a single draw, which is taken as exact."""
        divisor = max(self.count - 1, 1)
        return np.concatenate([self.squares[name].ravel() for name in names]) / divisor

    def variance(self, names: list[str]) -> tuple[float, float, float]:
        """The total variance with a 95 % interval.

        The total variance is the mean squared distance of the draws from their mean; the interval is
        that of a mean, on the log scale.
        """
        total = float(self.flat_variance(names).sum())
        distances = np.sum([np.concatenate(self.distances[name]) for name in names], axis=0)
        if self.count < 2 or total <= 0:
            return total, total, total
        error = float(distances.std(ddof=1)) / (math.sqrt(self.count) * float(distances.mean()))
        factor = math.exp(float(stats.norm.ppf(0.975)) * error)
        return total, total / factor, total * factor


def _double(x: Tensor) -> np.ndarray:
    return x.cpu().double().numpy()


@dataclass(frozen=True, eq=False)
class Reference:
    """A gradient that is taken as true, with the variance of what it was estimated by."""

    mean: np.ndarray
    error: np.ndarray
    """Squared standard error per coordinate."""
    degrees: float
    """Degrees of freedom of that error; infinite where it is zero."""

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.mean))


def reference_of(moments: list[Moments], names: list[str]) -> Reference:
    """The mean of several unbiased estimates, each weighted by its precision."""
    precisions = []
    for m in moments:
        total = float(m.flat_variance(names).sum())
        precisions.append(m.count / total if total > 0 else math.inf)
    if math.inf in precisions:
        precisions = [float(p == math.inf) for p in precisions]
    weights = np.array(precisions) / np.sum(precisions)
    mean = np.sum([w * m.flat_mean(names) for w, m in zip(weights, moments, strict=True)], axis=0)
    error = np.sum(
        [w**2 * m.flat_variance(names) / m.count for w, m in zip(weights, moments, strict=True)],
        axis=0,
    )
    degrees = min((m.count - 1 for m in moments if m.count > 1), default=math.inf)
    return Reference(mean, error, degrees)


def bias(moments: Moments, reference: Reference, names: list[str]) -> tuple[float, float]:
    """Norm of the bias, without what sampling error adds to it, and its corrected z-score.

    Each coordinate has a t-statistic; the p-value of the largest is corrected for their number
    (Bonferroni) and turned into a z-score. 0 if no coordinate varies or differs.
    """
    difference = moments.flat_mean(names) - reference.mean
    error = moments.flat_variance(names) / moments.count + reference.error
    size = math.sqrt(max(float(np.square(difference).sum() - error.sum()), 0.0))
    equal = np.abs(difference) <= 1e-5 * (np.abs(reference.mean) + reference.norm + 1e-30)
    exact = error <= 1e-10 * reference.norm**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(equal & exact, 0.0, np.abs(difference) / np.sqrt(error))
    largest, degrees = float(t.max()), min(max(moments.count - 1, 1), reference.degrees)
    log_p = float(stats.t.logsf(largest, degrees)) + math.log(2 * len(t))
    if log_p >= 0:
        return size, 0.0
    # isf takes a probability, which underflows beyond z = 37.
    return size, float(stats.norm.isf(math.exp(log_p) / 2)) if log_p > -600 else largest
