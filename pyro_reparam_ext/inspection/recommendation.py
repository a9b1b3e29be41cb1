"""A recommendation for a site: another distribution, or another estimator, and why."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import Delta, TorchDistribution

from ..distributions.rules.known_defects import defects, has_biased_gradient
from ..distributions.rules.wrappers import innermost
from ..estimators.base import Estimator
from ..estimators.disarm import DisARM
from ..estimators.enumeration import Enumeration
from ..estimators.leave_one_out import LeaveOneOut
from ..estimators.local_expectation import LocalExpectation
from ..estimators.protocol import Site
from ..evaluation.at_once import is_at_once
from ..reparam.pathwise import pathwise_twin
from .words import is_discrete

FEW = 64
"""Evaluations that an exact expectation may take for it to be recommended unasked."""


@dataclass(frozen=True)
class Recommendation:
    """Code to write at a site, and the reason in a few words; empty where all is well."""

    what: str = ""
    why: str = ""


@dataclass(frozen=True)
class Surroundings:
    """Knowledge of the program around a site that a recommendation depends on.

    ``particles``: those of the ELBO. ``enumerable``: the joint support size of all sites that are
    enumerated, or might be. ``inside``: whether all costs that depend on the site lie inside of its
    plates, element by element.
    """

    particles: int
    enumerable: int
    inside: bool


def recommend(site: Site, around: Surroundings) -> Recommendation:
    """A replacement for a distribution with a defect; else a better estimator, if there is one."""
    fn, estimator = site.fn, site.estimator
    found = defects(fn)
    if found:
        swap = "; PathwiseReparam puts it there" if _is_swapped(fn) else ""
        return Recommendation(f"pre.distributions.{found[0].instead}", f"right{swap}")
    if isinstance(innermost(fn), Delta):
        return Recommendation()
    if not is_discrete(fn):
        return _continuous(fn, estimator, around)
    if estimator.uses_cost or not estimator.is_unbiased_at(fn):
        return _discrete(fn, estimator, around)
    return Recommendation()


def _is_swapped(fn: TorchDistribution) -> bool:
    """Whether ``PathwiseReparam`` serves a distribution."""
    try:
        return pathwise_twin(fn) is not None
    except (NotImplementedError, ValueError):  # a mixture of components that it doesn't serve
        return False


def _continuous(fn: TorchDistribution, estimator: Estimator, around: Surroundings) -> Recommendation:
    if not estimator.uses_cost:
        return Recommendation()
    if fn.has_rsample and not has_biased_gradient(fn):
        return Recommendation("Pathwise()", "less variance, if no cost jumps in the value")
    if not fn.has_rsample and not innermost(fn).event_shape:
        return Recommendation("pre.distributions.ImplicitUnivariate", "pathwise, from its density")
    return _more_particles(estimator, around)


def _discrete(fn: TorchDistribution, estimator: Estimator, around: Surroundings) -> Recommendation:
    for better in (Enumeration(), LocalExpectation(), DisARM()):
        if not (better.serves(fn) and better.is_unbiased_at(fn)):
            continue
        if is_at_once(better) and not around.inside:
            continue
        count = better.evaluations(fn)
        if count > FEW or (better.enumerated and around.enumerable > Enumeration.max_support):
            continue
        if isinstance(better, DisARM):
            return Recommendation("DisARM()", "less variance, by an antithetic twin")
        exact = "exact" if better.enumerated else "exact over each coordinate"
        return Recommendation(repr(better), f"{exact}, in {count} evaluations")
    return _more_particles(estimator, around)


def _more_particles(estimator: Estimator, around: Surroundings) -> Recommendation:
    least = LeaveOneOut.min_particles
    if around.particles >= least and isinstance(estimator, LeaveOneOut):
        return Recommendation()
    more = f", num_particles={least} or more" if around.particles < least else ""
    return Recommendation(f"LeaveOneOut(){more}", "less variance, by the other particles")


def enumerable_size(site: Site) -> int:
    """The joint support size of a site that is enumerated, or small enough to be; else 1."""
    if site.estimator.enumerated:
        return site.estimator.evaluations(site.fn)
    enumeration = Enumeration()
    size = enumeration.evaluations(site.fn) if enumeration.serves(site.fn) else 1
    return size if size <= FEW else 1
