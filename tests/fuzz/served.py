"""Programs that the package is known to get wrong, or to refuse: ``make fuzz`` leaves them out.

Each condition goes when what it names is mended.
"""

from __future__ import annotations

from ..registry import REGISTRY
from .check import estimators, has_exact_site
from .forms import broadcasts
from .grammar import Program


def served(program: Program) -> bool:
    if reenters(program):
        return False
    if program.mode is False:
        return not (exact_beside_outside(program) or padded_in_loop(program))
    return True


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


def exact_beside_outside(program: Program) -> bool:
    """A site that is summed over exactly lies in a plate, and something else outside of it.

    A loop can't tell whether that depends on the site.
    """
    exact = (x for x in program.latents if x.estimator and REGISTRY[x.estimator].inside_only)
    plates = {plate for site in exact for plate in site.plates}
    return any(plates - set(where) for _, _, where, _, _ in program.laws())


def padded_in_loop(program: Program) -> bool:
    """Whether a program that does not broadcast may get values with further dims of size 1.

    In the run of an alternative, a loop gives the model the other sites so.
    """
    alternatives = has_exact_site(program) or any(
        label.startswith(("DisARM", "REBAR")) for label in estimators(program)
    )
    return bool(program.plates) and alternatives and not broadcasts(program)
