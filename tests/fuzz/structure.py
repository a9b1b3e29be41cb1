"""What of a program's structure decides how it is run, and by which estimators."""

from __future__ import annotations

from ..registry import REGISTRY
from .forms import features
from .grammar import Program

READS = ("branch_item", "branch_bool", "index_int")
"""Forms that make a Python number of a value."""


def estimators(program: Program) -> set[str]:
    return {latent.estimator for latent in program.latents if latent.estimator}


def has_exact_site(program: Program) -> bool:
    """Whether an estimator changes all elements of a plate at once."""
    return any(REGISTRY[label].inside_only for label in estimators(program))


def read_sites(program: Program) -> set[str]:
    """The sites whose values are read as numbers."""
    return {source for x in features(program) if x.form in READS for source in x.sources}


def leaves_a_plate(program: Program) -> bool:
    """Whether anything reads a value from outside a plate that the value is in."""
    return any(
        set(program.latent(source).plates) - set(plates)
        for _, _, plates, law, _ in program.laws()
        for feature in law.features
        for source in feature.sources
    )


def reenters(program: Program) -> bool:
    """Whether a value leaves a plate and comes back into it by way of another site.

    Elements of the plate are then no longer independent given what lies outside of it.
    """
    reads = {
        (source, side, name)
        for side, name, _, law, _ in program.laws()
        for feature in law.features
        for source in feature.sources
    }
    plates = {name: frozenset(where) for _, name, where, _, _ in program.laws()}

    def lost(source: str, side: str, at: str, gone: frozenset[str]) -> bool:
        """Whether a plate that was left on the way to ``source`` is met again at or after ``at``."""
        gone |= plates[source] - plates[at]
        if gone & plates[at]:
            return True
        # values are made in the guide; the model only reads them
        after = (read for read in reads if side == "guide" and read[0] == at)
        return any(lost(*read, gone) for read in after)

    return any(lost(*read, frozenset()) for read in reads)
