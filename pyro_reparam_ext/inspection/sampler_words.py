"""A site's sampler in words: whether it is reparameterised, and right."""

from __future__ import annotations

from pyro.distributions import Delta, TorchDistribution

from ..distributions.mixins.held_score import HeldScore
from ..distributions.rules.known_defects import defects, is_biased_sampler, is_scored_otherwise
from ..distributions.rules.wrappers import innermost
from ..estimators.pathwise import is_partly_reparameterised
from .words import is_discrete


def sampler_words(fn: TorchDistribution) -> str:
    """The way in which a draw carries a gradient, or what is known to be wrong with that."""
    found = defects(fn)
    if found:
        return "; ".join(defect.what for defect in found)
    if isinstance(innermost(fn), Delta):
        return "a function of other sites"
    if is_biased_sampler(fn):
        return "straight-through, biased"
    if is_scored_otherwise(fn):
        return "relaxed, scored as discrete: biased"
    if fn.has_rsample:
        in_part = is_partly_reparameterised(fn) and not isinstance(innermost(fn), HeldScore)
        return "pathwise in part" if in_part else "pathwise"
    return "discrete" if is_discrete(fn) else "no pathwise sampler"
