"""Estimators that change all elements of a plate at once: costs have to lie in their plates."""

from __future__ import annotations

from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..estimators.protocol import Site
from .terms import Crossing, Term


def is_at_once(estimator: Estimator) -> bool:
    """Whether an estimator changes all elements of a plate at once, each by itself."""
    return estimator.coordinatewise or estimator.enumerated


def check_inside(site: Site, term: Term) -> None:
    """Raises where a term that depends on an enumerated site lies outside of its plates."""
    outside = site.plates - set(term.plates)
    if outside:
        raise EstimatorError(
            f"site '{site.name}': {type(site.estimator).__name__} gives all elements of plate "
            f"{sorted(outside)[0]!r} the same value at a time, but {term.side} site '{term.name}' "
            f"depends on it from outside that plate. {advice(site)}"
        )


def outside(names: str, site: Site, term: Term, plate: str, what: str) -> EstimatorError:
    """The error for a term that depends on a site from outside one of its plates."""
    return EstimatorError(
        f"site {names}: {type(site.estimator).__name__} {what} in all elements of plate {plate!r} at "
        f"once, but {term.side} site '{term.name}' depends on it from outside that plate. "
        f"{advice(site)} Or move '{term.name}' into the plate."
    )


def advice(site: Site) -> str:
    """Estimators of a site that costs outside its plates may depend on."""
    return site.estimator.advice(site.fn, is_at_once)


def check_crossings(site: Site, found: set[Crossing]) -> None:
    """Raises for an estimator that no cost may cross the plates of."""
    if found and is_at_once(site.estimator):
        _, (side, name), plate = min(found)
        raise EstimatorError(
            f"site '{site.name}': {type(site.estimator).__name__} changes all elements of plate "
            f"'{plate}' at once, but {side} site '{name}' depends in one element of it on the "
            f"others. {site.estimator.advice(site.fn, is_at_once)}"
        )
