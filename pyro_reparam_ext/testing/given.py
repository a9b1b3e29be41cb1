"""The estimator that is given to be checked: what it is, and how it is run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..callers import line_of, told
from ..compiled.backends import plain
from ..compiled.svi import CompiledSVI
from ..elbo import TraceEstimator_ELBO
from ..errors import CannotVectorize, EstimatorError
from ..estimators.base import Estimator
from .families import FAMILIES, Family


def check_class(who: str, estimator: object) -> None:
    """Its facts, and that its options can't be changed."""
    if not isinstance(estimator, Estimator):
        raise AssertionError(
            f"{who}: expected an instance of pre.estimators.Estimator, was given {estimator!r}. Pass "
            f"the class, an instance, or a function that returns one."
        )
    if not isinstance(estimator.unbiased, bool):
        raise AssertionError(
            f"{who}: unbiased is {estimator.unbiased!r}, expected True or False: whether the mean of "
            f"the gradient is the gradient of the ELBO. What depends on the distribution is said by "
            f"is_unbiased_at."
        )
    if not getattr(getattr(estimator, "__dataclass_params__", None), "frozen", False):
        raise AssertionError(
            f"{who}: its options can be changed after it was made, expected a frozen dataclass. "
            f"Decorate the class by @dataclass(frozen=True, eq=False)."
        )


def supported(
    who: str, estimator: Estimator, distributions: Sequence[Family] | None
) -> Sequence[Family]:
    if distributions is not None:
        return distributions
    families = [family for family in FAMILIES if estimator.serves(family.typical)]
    if not families:
        names = ", ".join(cls.__name__ for cls in estimator.supported)
        raise AssertionError(
            f"{who}: it supports none of the distributions that are tried ({names}). Pass "
            f"distributions=[pre.testing.Family(...)] with one that it does."
        )
    return families


@contextmanager
def named(who: str, what: str) -> Iterator[None]:
    """Errors and warnings as failures of the estimator."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=UserWarning)
            yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{who} {what}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """An error in one line; that of ``vmap`` for a read of a value in words for an estimator."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    if "data-dependent control flow" not in str(first):
        return told(error)
    return (
        f"under torch.func.vmap a value is read as a Python number (a branch, .item(), a loop over it, "
        f"or in a function such as one_hot or nonzero) at {line_of(first) or 'an unknown line'}, "
        f"expected tensor operations. Use torch.where and torch.stack in place of Python's if and for, "
        f"and index == torch.arange(n) in place of one_hot."
    )


class OneWay(TraceEstimator_ELBO):
    """Raises where a program can't be run in the way that was asked for."""

    def _run(self, *args: Any) -> Any:
        try:
            return super()._run(*args)
        except CannotVectorize as error:
            raise EstimatorError(str(error)) from error


class Graph(CompiledSVI):
    """Steps as a graph that is captured, and not compiled."""

    backend = staticmethod(plain)
