"""The candidates of one site, measured by more and more draws until one of them is the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..estimators.base import Estimator
from .pilot import NEGLIGIBLE, Assignment, Pilot

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ROUNDS = {16: 1.4, 64: 1.2, 256: 1.1}
"""Draws of each candidate that is left in a round, and the ratio of two times that may be one then."""
FIRST, LAST = min(ROUNDS), max(ROUNDS)
NEAR = ROUNDS[LAST]
"""The ratio of two products of variance and time that is not worth more evaluations."""
REPORTED = [
    *("unbiased", "variance", "variance_low", "variance_high", "bias_z", "evaluations"),
    *("seconds_per_gradient", "work_normalized_variance", "draws"),
]
"""What a report has of the summary of a study."""


@dataclass(eq=False)
class Race:
    """The candidates of one site, by name: how each was measured last, or why it can't be.

    ``winner``: the best of them; ``tied``: those that it can't be told from; ``biased``: those whose
    condition is not met in this program.
    """

    site: str
    candidates: dict[str, Estimator]
    rows: dict[str, Series] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    tied: set[str] = field(default_factory=set)
    biased: set[str] = field(default_factory=set)
    winner: str = ""

    def run(
        self,
        pilot: Pilot,
        others: Assignment,
        labels: Iterable[str],
        is_over: Callable[[], bool],
        advance: Callable[[str], None],
    ) -> Estimator:
        """The estimator that is the best of some, with the others as they are.

        Raises:
            Exception: none can be measured; that of the first one.
        """
        left = [label for label in labels if label not in self.failed and label not in self.biased]
        for draws, timing in ROUNDS.items():
            advance(f"{self.site}: {len(left)} candidates")
            measured = self._measure(pilot, others, left, draws)
            if measured.empty and others:  # it may be one of these that fails
                others = {}
                measured = self._measure(pilot, others, left, draws)
            if measured.empty:
                raise self.failed[left[0]]
            best = measured.loc[_product(measured).idxmin()]
            left = [label for label, row in measured.iterrows() if _is_tied(row, best, timing)]
            if len(left) == 1 or is_over():
                break
        self.tied = set(left) if len(left) > 1 else set()
        near = [x for x in left if _product(self.rows[x]) <= NEAR * _product(best)]
        self.winner = min(near, key=lambda label: self.rows[label]["evaluations"])
        if self._fails(pilot, others):
            # What it is unbiased on does not hold, for whatever else asks for it either.
            condition = self.candidates[self.winner].conditional.condition
            alike = [x for x in self.rows if self.candidates[x].conditional.condition == condition]
            kept = {label: self.rows.pop(label) for label in alike}
            for row in kept.values():
                row["unbiased"] = False
            self.biased |= kept.keys()
            found = self.run(pilot, others, list(self.rows), is_over, advance)
            self.rows |= kept
            return found
        return self.candidates[self.winner]

    def hopeful(self, error: float, seconds: float) -> list[str]:
        """The candidates that may be better than the winner where others were changed meanwhile.

        Variances, as times, of independent sites add up. ``error`` and ``seconds``: of the winner with
        the others as they are now.
        """
        winner = self.rows[self.winner]

        def product(row: Series, of: float) -> float:
            now = max(error + of - winner["error"], 0.0)
            return now * (seconds + row["seconds_per_gradient"] - winner["seconds_per_gradient"])

        limit = NEAR * error * seconds
        open_ones = (
            label
            for label, row in self.rows.items()
            if label not in (self.winner, *self.biased) and product(row, _least(row)) <= limit
        )
        return [self.winner, *open_ones]

    @property
    def level(self) -> tuple[float, float]:
        """Error and time of the winner, as measured last."""
        row = self.rows[self.winner]
        return row["error"], row["seconds_per_gradient"]

    def report(self) -> list[dict[str, Any]]:
        """A row on each candidate."""
        found = []
        for label in self.candidates:
            row: dict[str, Any] = {"site": self.site, "candidate": label}
            if label in self.rows:
                row |= dict(self.rows[label][REPORTED])
                row |= {"chosen": label == self.winner, "tied": label in self.tied, "failed": ""}
            else:
                error = self.failed[label]
                row |= {"unbiased": self.candidates[label].unbiased, "draws": 0, "chosen": False}
                row |= {"tied": False, "failed": str(error) or type(error).__name__}
            found.append(row)
        return found

    # -- parts ------------------------------------------------------------------------------------

    def _measure(self, pilot: Pilot, others: Assignment, left: list[str], draws: int) -> DataFrame:
        labels = {label: {**others, self.site: self.candidates[label]} for label in left}
        measured, failed = pilot.measure(labels, draws)
        self.failed = {k: x for k, x in self.failed.items() if k not in measured.index} | failed
        if measured.empty:
            return measured
        error = _squared_error(measured)
        measured["work_normalized_variance"] = error * measured["seconds_per_gradient"]
        measured["error"] = error + NEGLIGIBLE * _squared_norm(measured)  # by which they are judged
        self.rows |= {label: row for label, row in measured.iterrows()}
        return measured

    def _fails(self, pilot: Pilot, others: Assignment) -> bool:
        """Whether a winner that is unbiased on a condition differs from one that is without."""
        winner = self.candidates[self.winner]
        witnesses = [
            label
            for label in self.rows
            if self.candidates[label].unbiased and not self.candidates[label].conditional.condition
        ]
        if not (winner.unbiased and winner.conditional.condition and witnesses):
            return False
        witness = min(witnesses, key=lambda label: self.rows[label]["variance"])
        both = {x: {**others, self.site: self.candidates[x]} for x in (self.winner, witness)}
        measured, _ = pilot.measure(both, LAST)
        return not measured["unbiased"].get(self.winner, True)


def _squared_error(summary: DataFrame) -> Series:
    """The variance, and the squared bias of what is not unbiased."""
    bias = summary["bias"].fillna(0.0)
    return summary["variance"] + (bias**2).where(~summary["unbiased"], 0.0)


def _squared_norm(summary: DataFrame) -> float:
    """That of the gradient, the same for all candidates."""
    ratio = (summary["variance"] / summary["relative_variance"]).replace(math.inf, math.nan)
    return float(ratio.max()) if ratio.notna().any() else 0.0


def _product(measured: Any) -> Any:
    """By which candidates are judged, of one row or of all."""
    return measured["error"] * measured["seconds_per_gradient"]


def _least(row: Series) -> float:
    """The least error that a candidate may have, as far as it was measured."""
    return float(row["error"] - row["variance"] + row["variance_low"])


def _is_tied(row: Series, best: Series, timing: float) -> bool:
    """Whether a candidate may be as good as the best, as far as it was measured."""
    most = best["error"] - best["variance"] + best["variance_high"]
    limit = timing * most * best["seconds_per_gradient"]
    return bool(_least(row) * row["seconds_per_gradient"] <= limit)
