"""What of a program's structure decides how it is run, and by which estimators."""

from __future__ import annotations

from pyro_reparam_ext.estimators.base import Estimator

from ..registry import REGISTRY
from .features import features
from .grammar import Latent, Program

READS = ("branch_item", "branch_bool", "index_int")
"""Forms that make a Python number of a value."""


def estimators(program: Program) -> set[str]:
    return {latent.estimator for latent in program.latents if latent.estimator}


def refused(program: Program) -> set[str]:
    """The sites whose estimators are refused there for what they are, whatever the values."""
    return {
        latent.name
        for latent in program.latents
        if latent.estimator and _is_refused(program, latent, REGISTRY[latent.estimator].make())
    }


def _is_refused(program: Program, latent: Latent, estimator: Estimator) -> bool:
    dependent = program.particles != "independent" and estimator.iid_particles
    no_mean = program.bound is not None and estimator.needs_mean
    return dependent or no_mean or (estimator.analytic and not has_divergence(program, latent))


def has_divergence(program: Program, latent: Latent) -> bool:
    """Whether a site has one term in guide and model: alike in both, and all else held there."""
    guide, model = latent.guide, latent.model
    if model is None or (guide.scale, guide.mask, model.mask) != (model.scale, None, None):
        return False
    return not any(
        latent.name in {source, *_above(program, source)}
        for x in model.features
        for source in x.sources
    )


def _above(program: Program, name: str) -> set[str]:
    """The sites that the guide draws a site by."""
    sources = {source for x in program.latent(name).guide.features for source in x.sources}
    return sources.union(*(_above(program, source) for source in sources))


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
