"""A row of the table of sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .recommendation import Recommendation
from .words import distribution_words, num_numbers, plate_words, support_size


@dataclass(frozen=True)
class Row:
    """The description of one site, by column; of those in the middle ``print`` leaves some out."""

    distribution: str
    sampler: str
    plates: str
    coordinates: int
    values: float
    estimator: str
    chosen_by: str
    evaluations: int
    mode: str
    costs: str
    mode_reason: str
    why: str
    recommended: str

    @classmethod
    def of(
        cls,
        node: Mapping[str, Any],
        mode: tuple[str, str],
        *,
        sampler: str,
        advice: Recommendation,
        estimator: str = "",
        chosen_by: str = "",
        evaluations: int = 1,
        costs: str = "",
    ) -> Row:
        """The row of a node of a trace. ``mode``: with what failed in the faster ones."""
        return cls(
            distribution=distribution_words(node["fn"]),
            sampler=sampler,
            plates=plate_words(node),
            coordinates=num_numbers(node["fn"]),
            values=support_size(node["fn"]),
            estimator=estimator,
            chosen_by=chosen_by,
            evaluations=evaluations,
            mode=mode[0],
            costs=costs,
            mode_reason=mode[1],
            why=advice.why,
            recommended=advice.what,
        )
