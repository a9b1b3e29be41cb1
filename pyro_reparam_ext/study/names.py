"""The parameters that a study is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ..errors import EstimatorError
from .sampler import Sampler

Names: TypeAlias = Iterable[str] | Callable[[str], bool] | None
"""Names of parameters, a predicate of them, or all."""


def shared(samplers: list[Sampler]) -> list[str]:
    """The parameters that all programs have, in the order of the first."""
    names = [n for n in samplers[0].parameters if all(n in s.parameters for s in samplers)]
    if not names:
        raise EstimatorError(
            "The programs of the study share no parameter, expected at least one. Give model and "
            "guide parameters (pyro.param, pyro.module, PyroModule) of the same names in all variants."
        )
    return names


def select(names: list[str], params: Names) -> list[str]:
    """The names that ``params`` admits."""
    if params is None:
        return names
    if callable(params):
        chosen = [name for name in names if params(name)]
    else:
        wanted = [params] if isinstance(params, str) else list(params)
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise EstimatorError(
                f"params: no parameter {unknown[0]!r}; expected some of {', '.join(map(repr, names))}."
            )
        chosen = [name for name in names if name in wanted]
    if not chosen:
        raise EstimatorError(
            f"params: admits none of the parameters {', '.join(map(repr, names))}, expected at least "
            f"one."
        )
    return chosen
