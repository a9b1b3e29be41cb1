"""On what it depends that an estimator is unbiased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..estimators.base import Estimator

SHOWN = 3
"""Sites that are named before the others are counted."""


@dataclass(frozen=True)
class Conditions:
    """The sites of a program whose estimators are unbiased on a condition, and whether it is met.

    ``met`` is False once a measurement says so.
    """

    estimators: Mapping[str, type[Estimator]] = field(default_factory=dict)
    met: bool = True

    def __bool__(self) -> bool:
        return bool(self.estimators)

    def __str__(self) -> str:
        """As the summary of a study shows it; empty if there is none."""
        text = "; ".join(f"{cls.condition} of {_listed(sites)}" for cls, sites in self._by_estimator())
        return text if self.met else f"not met: {text}"

    def without(self, other: Conditions) -> Conditions:
        """Those at sites where ``other`` has none."""
        left = {k: x for k, x in self.estimators.items() if k not in other.estimators}
        return Conditions(left, self.met)

    @property
    def sentence(self) -> str:
        """For a warning: which estimators are unbiased at which sites if what."""
        return "; ".join(
            f"{cls.__name__} at {'site' if len(sites) == 1 else 'sites'} {_listed(sites)} is unbiased "
            f"only if {cls.condition}"
            for cls, sites in self._by_estimator()
        )

    def _by_estimator(self) -> Iterable[tuple[type[Estimator], list[str]]]:
        return {
            cls: [name for name, other in self.estimators.items() if other is cls]
            for cls in self.estimators.values()
        }.items()


def _listed(sites: list[str]) -> str:
    more = len(sites) - SHOWN
    shown = ", ".join(map(repr, sites[:SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
