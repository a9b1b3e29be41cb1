"""The shares of single sources of noise in the variance of a gradient."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from ..errors import EstimatorError
from .again import Again
from .draws import Draws
from .pick_freeze import PickFreeze, Rows

if TYPE_CHECKING:
    from pandas import DataFrame

INTERACTION = "interaction"
PATIENCE = 3.0
"""Seconds after which the progress bar shows."""
ROUNDING = 1e-10
"""A variance below this part of the squared norm of the gradient is that of rounding."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Shares of the sources of noise, in every parameter, with their standard errors.

    Both are arrays of shape ``(sources,)``, of which the last is the interaction; NaN for a parameter
    whose gradient has no variance.
    """

    sources: list[str]
    shares: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]

    def table(self, names: list[str], intervals: bool) -> DataFrame:
        """The shares as :meth:`~pyro_reparam_ext.GradientStudy.attribution` returns them."""
        import pandas as pd

        shares = pd.DataFrame([self.shares[n] for n in names], pd.Index(names), self.sources)
        shares.index.name = "parameter"
        if not intervals:
            return shares
        width = NormalDist().inv_cdf(0.975) * np.array([self.errors[name] for name in names])
        parts = {"share": shares, "low": shares - width, "high": shares + width}
        table = pd.concat(parts, axis=1).swaplevel(axis=1)
        columns = [(source, part) for source in self.sources for part in parts]
        return table[columns].rename_axis(columns=["source", None])


def attribution(
    again: Again, label: str, names: list[str], num_pairs: int, seed: int, progress: bool
) -> Attribution:
    """Draws pairs of gradients of a label, and what each source has in their variance."""
    if num_pairs < 2:
        raise EstimatorError(f"num_pairs: expected at least 2, was given {num_pairs}.")
    with again.measured(label) as job:
        pairs = PickFreeze(Draws(job.sampler, names), seed)
        if not pairs.sources:
            raise EstimatorError(
                f"attribution: the gradient of {label!r} has no noise to be told apart (it draws no "
                f"random number), expected an estimator that samples. Take another label of the study."
            )
        chunks: list[Rows] = []
        bar = tqdm(
            total=num_pairs * pairs.gradients,
            desc="gradients",
            delay=PATIENCE,
            disable=None if progress else True,
        )
        with bar:
            for rows in pairs.rows(num_pairs):
                chunks.append(rows)
                bar.update(len(rows[names[0]]) * pairs.gradients)
    if pairs.late:
        warnings.warn(
            f"attribution: {', '.join(map(repr, pairs.late))} drew noise in few of the gradients of "
            f"{label!r} only, and was met too late to get a column; what it adds to the variance is in "
            f"'{INTERACTION}'.",
            stacklevel=3,
        )
    shares, errors = {}, {}
    for name in names:
        rows_of = np.concatenate([rows[name] for rows in chunks])
        shares[name], errors[name] = _shares(rows_of)
    return Attribution([*pairs.sources, INTERACTION], shares, errors)


def _shares(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratios of means over rows, and their standard errors by the delta method."""
    variance, parts, norm = rows[:, :1], rows[:, 1:-1], rows[:, -1]
    parts = np.concatenate([parts, variance - parts.sum(1, keepdims=True)], 1)
    total = float(variance.mean())
    if total <= ROUNDING * float(norm.mean()):
        return np.full(parts.shape[1], np.nan), np.full(parts.shape[1], np.nan)
    shares = parts.mean(0) / total
    deviations = (parts - shares * variance) / total
    return shares, deviations.std(0, ddof=1) / math.sqrt(len(rows))
