"""The gradients of a bound by several particles, by the words that choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from pyro.distributions import Delta

from .distributions.rules.known_defects import is_biased_sampler
from .distributions.rules.wrappers import innermost
from .errors import EstimatorError
from .estimators.base import Estimator
from .estimators.doubly_reparameterized import DoublyReparameterized
from .estimators.leave_one_out import LeaveOneOut
from .estimators.pathwise import Pathwise
from .estimators.score_function import ScoreFunction
from .evaluation.objective import LogMeanExp, LogMeanExpLessOne

GradientWord: TypeAlias = Literal["dreg", "vimco", "vimco-star", "score", "pathwise"]


@dataclass(frozen=True, eq=False)
class BoundGradient:
    """A gradient of the bound: its estimator at each site, and the objective, which has the baseline.

    Args:
        sampled: for sites whose value carries no gradient.
        moving: for those whose sampler is reparameterised and right, if it is another one.
        objective: from the order of the bound to the objective.
    """

    sampled: Estimator
    moving: Estimator | None = None
    objective: Callable[[float], LogMeanExp] = LogMeanExp

    def at(self, message: dict[str, Any]) -> Estimator | None:
        """The estimator of a site; None where it is a function of others, which is always pathwise."""
        fn = message["fn"]
        if isinstance(innermost(fn), Delta):
            return None
        if self.moving is not None and self.moving.supports(fn) and not is_biased_sampler(fn):
            return self.moving
        return self.sampled


_GRADIENTS: Mapping[str, BoundGradient] = {
    "dreg": BoundGradient(LeaveOneOut(), DoublyReparameterized()),
    "pathwise": BoundGradient(LeaveOneOut(), Pathwise()),
    "vimco": BoundGradient(LeaveOneOut()),
    "vimco-star": BoundGradient(LeaveOneOut(), objective=LogMeanExpLessOne),
    "score": BoundGradient(ScoreFunction()),
}


def bound_gradient(word: str) -> BoundGradient:
    """The gradient that a word stands for.

    Raises:
        EstimatorError: there is none of that name.
    """
    if word not in _GRADIENTS:
        words = ", ".join(map(repr, get_args(GradientWord)))
        raise EstimatorError(f"gradient: expected one of {words}, was given {word!r}.")
    return _GRADIENTS[word]
