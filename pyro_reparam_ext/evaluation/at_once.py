"""Estimators that change all elements of a plate at once: costs have to lie in their plates."""

from __future__ import annotations

from ..errors import EstimatorError
from ..estimators.base import Estimator, Site
from ..estimators.enumeration import Enumeration
from .terms import Term


def is_at_once(estimator: Estimator) -> bool:
    """Whether an estimator changes all elements of a plate at once, each by itself."""
    return estimator.separable or isinstance(estimator, Enumeration)


def check_inside(site: Site, term: Term) -> None:
    """Raises where a term that depends on an enumerated site lies outside of its plates."""
    outside = site.frames - set(term.frames)
    if outside:
        raise EstimatorError(
            f"site '{site.name}': Enumeration gives all elements of plate {sorted(outside)[0]!r} the "
            f"same value at a time, but {term.side} site '{term.name}' depends on it from outside that "
            f"plate. {advice(site)}"
        )


def advice(site: Site) -> str:
    """Estimators of a site that costs outside its plates may depend on."""
    return site.estimator.advice(site.fn, is_at_once)
