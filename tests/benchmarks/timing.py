"""Ratios of CPU times, from interleaved repetitions in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of the report: what was measured against what, in CPU seconds a call.

    ``at_most`` bounds the ratio ``seconds / baseline_seconds``, ``at_least`` its inverse.
    """

    benchmark: str
    case: str
    seconds: float
    baseline_seconds: float
    ratio: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def verdict(self) -> str:
        if self.at_most is not None:
            return "ok" if self.ratio <= self.at_most else "SLOWER THAN TARGET"
        if self.at_least is not None:
            return "ok" if 1 / self.ratio >= self.at_least else "SLOWER THAN TARGET"
        return ""


def compare(
    benchmark: str,
    case: str,
    candidate: Callable[[], object],
    baseline: Callable[[], object],
    *,
    repetitions: int = 60,
    calls: int = 5,
    warmup: int = 2,
    at_most: float | None = None,
) -> Row:
    """Times ``calls`` calls of each in turn, ``repetitions`` times; the median of the ratios."""
    for _ in range(warmup):
        _seconds(candidate, calls), _seconds(baseline, calls)
    pairs = []
    for repetition in range(repetitions):
        if repetition % 2:
            other = _seconds(baseline, calls)
            pairs.append((_seconds(candidate, calls), other))
        else:
            pairs.append((_seconds(candidate, calls), _seconds(baseline, calls)))
    return Row(
        benchmark,
        case,
        median(mine for mine, _ in pairs) / calls,
        median(other for _, other in pairs) / calls,
        median(mine / other for mine, other in pairs),
        at_most=at_most,
    )


def _seconds(call: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        call()
    return time.process_time() - start


def table(rows: list[Row]) -> str:
    """The report as text."""
    head = ("benchmark", "case", "ms", "baseline ms", "ratio", "target", "")
    lines = [head]
    for row in rows:
        target = ""
        if row.at_most is not None:
            target = f"<= {row.at_most:g}"
        elif row.at_least is not None:
            target = f"<= 1/{row.at_least:g}"
        ratio = f"{row.ratio:.2f}" if row.ratio > 0.3 else f"1/{1 / row.ratio:.1f}"
        times = (f"{1e3 * row.seconds:.3f}", f"{1e3 * row.baseline_seconds:.3f}")
        lines.append((row.benchmark, row.case, *times, ratio, target, row.verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, 1, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
