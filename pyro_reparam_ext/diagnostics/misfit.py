r"""The cause of a bad fit, as the log weights show it: what they depend on that the guide has not.

The log weights of a guide that is exact don't depend on the draws. Here their correlation is taken with
products of the draws' coordinates, each transformed to normal scores :math:`u` by its ranks:

- :math:`u_i u_j`: a dependence of two coordinates in the posterior that the guide leaves out;
- :math:`u_i \overline{(u_j^2 - 1)}`: a scale that changes with another site, as in a funnel;
- a rise in the outer draws beyond the parabola of the inner ones: another mode, or a heavy tail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

COORDINATES = 300
"""Coordinates whose pairs are looked at: those of the smallest sites first."""
NOTICEABLE = 0.15
"""A correlation with the log weights from which on it counts as a cause."""
INNER, OUTER = 1.5, 2.0
"""Normal scores up to which the parabola is fitted, and beyond which draws are compared with it."""
RISE = 0.5
"""Nats above the parabola that count as a rise."""

Kind = Literal["dependence", "funnel", "mode", "tails"]


@dataclass(frozen=True)
class Cause:
    """A cause with the coordinates ``(site, index)`` that show it, the parent first in a funnel."""

    kind: Kind
    strength: float
    first: tuple[str, str]
    second: tuple[str, str] = ("", "")


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Each column's ranks as quantiles of a normal; columns of one value are left out as NaN."""
    from scipy import stats

    ranks = stats.rankdata(values, axis=0)
    scores = stats.norm.ppf((ranks - 0.5) / len(values))
    return np.where(np.ptp(values, axis=0) > 0, scores, np.nan)


def causes(
    log_weights: np.ndarray,
    values: Mapping[str, np.ndarray],
    parents: Mapping[str, frozenset[str]],
) -> list[Cause]:
    """The causes that the log weights show, the strongest first.

    Args:
        log_weights: shape ``(draws,)``.
        values: by site that has a density, shape ``(draws, *shape)``.
        parents: by site, those that its distribution in the model depends on.
    """
    draws = len(log_weights)
    y = np.maximum(log_weights, np.quantile(log_weights, 0.01))
    y = y - y.mean()
    if not y.std() > 1e-6 * max(1.0, float(np.abs(log_weights).max())):
        return []
    names: list[tuple[str, str]] = []
    columns: list[np.ndarray] = []
    scores: dict[str, np.ndarray] = {}
    for name, x in sorted(values.items(), key=lambda pair: pair[1].size):
        scores[name] = normal_scores(x.reshape(draws, -1).astype(float))
        places = [index for index in np.ndindex(x.shape[1:])]
        names += [(name, ", ".join(map(str, place))) for place in places]
        columns.append(scores[name])
    if not columns:
        return []
    u = np.nan_to_num(np.concatenate(columns, axis=1)[:, :COORDINATES])
    found = [*_dependences(y, u, names), *_funnels(y, scores, parents), *_outer(log_weights, u, names)]
    return sorted(found, key=lambda cause: -cause.strength)


def _needed(draws: int, tests: int) -> float:
    """The correlation that is beyond chance in so many tests."""
    return max(NOTICEABLE, (3 + math.sqrt(2 * math.log(max(tests, 1)))) / math.sqrt(draws))


def _dependences(y: np.ndarray, u: np.ndarray, names: list[tuple[str, str]]) -> Iterator[Cause]:
    draws, count = u.shape
    if count < 2:
        return
    products = np.abs((u * y[:, None]).T @ u) / (draws * y.std())
    np.fill_diagonal(products, 0.0)
    i, j = np.unravel_index(products.argmax(), products.shape)
    if products[i, j] > _needed(draws, count * (count - 1) // 2):
        first, second = sorted((int(i), int(j)))
        yield Cause("dependence", float(products[i, j]), names[first], names[second])


def _funnels(
    y: np.ndarray, scores: Mapping[str, np.ndarray], parents: Mapping[str, frozenset[str]]
) -> Iterator[Cause]:
    pairs = [(v, x) for x in scores for v in parents.get(x, ()) if v in scores and v != x]
    tests = sum(scores[v].shape[1] for v, _ in pairs)
    for v, x in pairs:
        spread = np.nan_to_num(scores[x] ** 2 - 1).mean(1)
        for place in range(scores[v].shape[1]):
            feature = np.nan_to_num(scores[v][:, place]) * spread
            if feature.std() > 0:
                r = abs(float(np.corrcoef(y, feature)[0, 1]))
                if r > _needed(len(y), tests):
                    yield Cause("funnel", r, (v, str(place)), (x, ""))


def _outer(y: np.ndarray, u: np.ndarray, names: list[tuple[str, str]]) -> Iterator[Cause]:
    for place, column in enumerate(u.T):
        inner = np.abs(column) < INNER
        if inner.sum() < 20 or not column.any():
            continue
        coefficients = np.polyfit(column[inner], y[inner], 2)
        residual = y - np.polyval(coefficients, column)
        rises = [_rise(residual[side * column > OUTER]) for side in (-1, 1)]
        if max(rises) > RISE:
            share = 1 - 1 / (1 + max(rises))
            kind: Kind = "tails" if min(rises) > 0.3 * max(rises) else "mode"
            yield Cause(kind, share, names[place])


def _rise(residual: np.ndarray) -> float:
    """The rise of outer draws, less four errors."""
    if len(residual) < 5:
        return 0.0
    return float(residual.mean() - 4 * residual.std(ddof=1) / len(residual) ** 0.5)
