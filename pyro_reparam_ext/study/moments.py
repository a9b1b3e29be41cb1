"""Mean and variance of gradient draws, accumulated chunk by chunk in double precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from torch import Tensor

LARGE = 16
"""Coordinates that a parameter needs for a scale of its own; smaller ones take that of all together."""
FEW = 50
"""The effective number of draws at which the largest of them is taken to be twice what was seen."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Means over draws, and how far they may be off.

    ``error``: their squared standard errors. ``reach``: how far one more draw, as large as any that
    was seen in the coordinates of the same scale, would move each mean; NaN where no draw differed
    from another, so that nothing is known of the draws that were not seen.
    """

    mean: np.ndarray
    error: np.ndarray
    reach: np.ndarray

    @classmethod
    def exact(cls, mean: np.ndarray) -> Estimate:
        return cls(mean, np.zeros_like(mean), np.zeros_like(mean))


@dataclass(eq=False)
class Moments:
    """Count, mean, squared and largest deviations per coordinate, and what their total scatters.

    The largest deviations from the mean are bounds, which a mean that moves from chunk to chunk makes
    a little wider.

    Args:
        direction: a vector per parameter, chosen without regard to the draws; the component of every
            draw along it is kept.
        deterministic: whether the draws are equal by construction, up to rounding.
    """

    direction: dict[str, Tensor] = field(default_factory=dict)
    deterministic: bool = False
    count: int = 0
    mean: dict[str, np.ndarray] = field(default_factory=dict)
    squares: dict[str, np.ndarray] = field(default_factory=dict)
    spans: dict[str, np.ndarray] = field(default_factory=dict)
    pilot: dict[str, Tensor] = field(default_factory=dict)
    distances: dict[str, list[np.ndarray]] = field(default_factory=dict)
    components: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, chunk: dict[str, Tensor]) -> None:
        """Adds draws, which lie on the leftmost dim."""
        other = self.empty()
        for name, draws in chunk.items():
            size, flat = len(draws), draws.detach().reshape(len(draws), -1)
            ones = flat.new_ones(size)  # a product with these is the fastest of sums
            shifted = flat - flat[0]  # draws without variance stay so
            center = ones @ shifted / size
            deviations, center = shifted.sub_(center), flat[0] + center
            squared = deviations.square()
            shape = draws.shape[1:]
            other.count = size
            other.mean[name] = mean = _double(center).reshape(shape)
            other.squares[name] = _double(ones @ squared).reshape(shape)
            other.spans[name] = np.sqrt(_double(squared.amax(0))).reshape(shape)
            offset = center - self.pilot.setdefault(name, center)
            distances = squared.sum(1) + 2 * (deviations @ offset) + offset.square().sum()
            other.distances[name] = [_double(distances)]
            if name in self.direction:
                u = self.direction[name].reshape(-1)
                along = float(np.dot(_double(u), mean.ravel()))
                other.components[name] = [_double(deviations @ u) + along]
        self.merge(other)

    def empty(self) -> Moments:
        """One for more draws of the same kind, to be merged with this one."""
        return Moments(self.direction, self.deterministic, pilot=self.pilot)

    def merge(self, other: Moments) -> None:
        """Adds the draws of another one, which began as :meth:`empty` of this one."""
        before, size = self.count, other.count
        total = self.count = before + size
        for name, mean in other.mean.items():
            if not before:
                self.mean[name], self.squares[name] = mean, other.squares[name]
                self.spans[name] = other.spans[name]
            else:
                shift = mean - self.mean[name]
                moved = np.abs(shift)
                self.mean[name] = self.mean[name] + shift * (size / total)
                self.squares[name] = (
                    self.squares[name] + other.squares[name] + moved**2 * (before * size / total)
                )
                self.spans[name] = np.maximum(
                    self.spans[name] + moved * (size / total),
                    other.spans[name] + moved * (before / total),
                )
        for kept, more in (
            (self.distances, other.distances),
            (self.components, other.components),
        ):
            for name, values in more.items():
                kept.setdefault(name, []).extend(values)

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
        factor = math.exp(NormalDist().inv_cdf(0.975) * error)
        return total, total / factor, total * factor

    def coordinates(self, names: list[str]) -> Estimate:
        """The mean of every coordinate of the named parameters, flat."""
        mean = self.flat_mean(names)
        if self.count == 1 or self.deterministic:
            return Estimate.exact(mean)
        scales = self._scales()
        largest = max(scales.values()) or np.nan
        reach = [np.where(self._varies(name), scales[name], largest).ravel() for name in names]
        error = self.flat_variance(names) / self.count
        return Estimate(mean, error, np.concatenate(reach) / self.count)

    def groups(self, names: list[str]) -> Estimate | None:
        """The mean component along the direction, in each named parameter and in all together."""
        if not all(name in self.direction for name in names):
            return None
        mean = np.array(
            [np.dot(_double(self.direction[n]).ravel(), self.mean[n].ravel()) for n in names]
        )
        mean = np.append(mean, mean.sum())
        if self.count == 1 or self.deterministic:
            return Estimate.exact(mean)
        components = np.stack([np.concatenate(self.components[name]) for name in names])
        components = np.vstack([components, components.sum(0)])
        seen = np.abs(components - components.mean(1, keepdims=True)).max(1) * self._caution(names)
        scales = self._scales()
        unseen = [float(self.direction[name].abs().max()) * scales[name] for name in names]
        reach = np.maximum(seen, [*unseen, max(unseen)])
        reach[reach <= 1e-5 * np.abs(mean)] = np.nan  # mere rounding
        return Estimate(mean, components.var(1, ddof=1) / self.count, reach / self.count)

    def _varies(self, name: str) -> np.ndarray:
        """Where draws differ by more than rounding."""
        return self.spans[name] > 1e-5 * np.abs(self.mean[name])

    def _scales(self) -> dict[str, float]:
        """How far a draw may deviate in each parameter, or in any for a small one.

        The largest deviation seen, and more if few draws make up the variance.
        """
        own = {n: float(np.where(self._varies(n), x, 0).max()) for n, x in self.spans.items()}
        largest = max(own.values()) * self._caution(list(own))
        return {
            n: x * self._caution([n]) if self.mean[n].size >= LARGE and x else largest
            for n, x in own.items()
        }

    def _caution(self, names: list[str]) -> float:
        distances = np.sum([np.concatenate(self.distances[name]) for name in names], axis=0)
        total = float(distances.sum())
        return 1 + FEW * float(np.square(distances / total).sum()) if total > 0 else 1.0


def _double(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


@dataclass(frozen=True, eq=False)
class Reference:
    """A gradient that is taken as true, with the error of what it was estimated by."""

    coordinates: Estimate
    groups: Estimate | None = None
    degrees: float = math.inf
    """Degrees of freedom of its error; infinite where that is zero."""

    @property
    def mean(self) -> np.ndarray:
        return self.coordinates.mean

    @property
    def error(self) -> np.ndarray:
        """Squared standard error per coordinate."""
        return self.coordinates.error

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.mean))


def reference_of(moments: list[Moments], names: list[str]) -> Reference:
    """The mean of several unbiased estimates, each weighted by its precision."""
    precisions = []
    for m in moments:
        total = float(m.flat_variance(names).sum())
        precisions.append(m.count / total if total > 0 and not m.deterministic else math.inf)
    if math.inf in precisions:
        precisions = [float(p == math.inf) for p in precisions]
    weights = np.array(precisions) / np.sum(precisions)
    used = [(w, m) for w, m in zip(weights, moments, strict=True) if w > 0]
    groups = [m.groups(names) for _, m in used]
    shares = [w for w, _ in used]
    return Reference(
        _weighted(shares, [m.coordinates(names) for _, m in used]),
        None if None in groups else _weighted(shares, [g for g in groups if g is not None]),
        min((m.count - 1 for _, m in used if m.count > 1 and not m.deterministic), default=math.inf),
    )


def _weighted(weights: list[float], estimates: list[Estimate]) -> Estimate:
    pairs = list(zip(weights, estimates, strict=True))
    return Estimate(
        np.sum([w * e.mean for w, e in pairs], axis=0),
        np.sum([w**2 * e.error for w, e in pairs], axis=0),
        np.max([w * e.reach for w, e in pairs], axis=0),
    )
