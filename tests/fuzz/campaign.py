"""Many programs: which are drawn for which mode, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..registry import REGISTRY
from .check import Outcome, check
from .features import broadcasts
from .generate import generate
from .grammar import Mode, Program
from .shrink import shrink
from .source import compiled
from .structure import estimators

MODES: tuple[Mode, ...] = (True, False, "vmap")


def mode_of(seed: int) -> Mode:
    """The modes in turn."""
    return MODES[seed % len(MODES)]


def program_of(seed: int) -> Program:
    return generate(seed, mode_of(seed))


@dataclass
class Tally:
    """How many programs of each kind were right, refused and so on."""

    by_kind: dict[str, Counter] = field(default_factory=dict)
    by_estimator: dict[str, Counter] = field(default_factory=dict)

    def add(self, program: Program, outcome: Outcome) -> None:
        kind = "broadcasting" if broadcasts(program) else "positional"
        self._count(self.by_kind, f"{program.mode}, {kind}", outcome)
        if program.bound is not None:
            self._count(self.by_estimator, f"bound, {program.bound.gradient}", outcome)
            self._count(self.by_estimator, f"bound, alpha={program.bound.alpha}", outcome)
        if program.particles != "independent":
            self._count(self.by_estimator, f"particles, {program.particles}", outcome)
        for label in sorted(estimators(program)) or ["default"]:
            self._count(self.by_estimator, label, outcome)

    def _count(self, table: dict[str, Counter], key: str, outcome: Outcome) -> None:
        table.setdefault(key, Counter())[outcome.status] += 1

    def refusing(self, least: int = 20) -> list[str]:
        """Kinds and estimators that refuse more of their programs than they may."""
        limits = dict.fromkeys(self.by_kind, 0.2)
        for label in self.by_estimator:
            inside_only = label in REGISTRY and REGISTRY[label].inside_only
            limits[label] = 0.5 if inside_only else 0.35
        return [
            f"{key}: {counts['refused']} of {counts.total()} refused"
            for key, counts in {**self.by_kind, **self.by_estimator}.items()
            if counts.total() >= least and counts["refused"] > limits[key] * counts.total()
        ]

    def __str__(self) -> str:
        statuses = ("right", "ran", "refused", "wrong", "failed")
        lines = [f"{'':32}" + "".join(f"{status:>9}" for status in statuses)]
        for key, counts in {**self.by_kind, **dict(sorted(self.by_estimator.items()))}.items():
            lines.append(f"{key:32}" + "".join(f"{counts[status]:9}" for status in statuses))
        return "\n".join(lines)


def run(programs: Iterable[Program], fault: Callable[[Program, Outcome], bool]) -> Tally:
    """Checks programs. ``fault`` is told of those at fault; it returns whether to go on."""
    tally = Tally()
    for program in programs:
        outcome = check(program)
        tally.add(program, outcome)
        if outcome.fault and not fault(program, outcome):
            break
    return tally


def explain(program: Program, outcome: Outcome) -> str:
    """A program at fault, made small, as source with its right and measured numbers."""
    small, outcome = shrink(program, outcome)
    made = {latent.name: latent.estimator or "default" for latent in small.latents}
    return (
        f"# seed {program.seed}: {outcome.status}\n# estimators {made}, "
        f"num_particles={small.num_particles}, vectorize_particles={small.mode!r}, "
        f"particles={small.particles!r}, bound={small.bound}\n"
        f"{compiled(small).source}\n" + "".join(f"# {x}\n" for x in outcome.detail.splitlines())
    )
