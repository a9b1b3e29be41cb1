"""Which estimators to advise where one can't serve a site."""

from __future__ import annotations

from collections.abc import Callable

from pyro.distributions import TorchDistribution

from .base import Estimator
from .disarm import DisARM
from .enumeration import Enumeration
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .pathwise import Pathwise
from .rebar import REBAR
from .score_function import ScoreFunction

UNBIASED = (Pathwise, DisARM, LocalExpectation, Enumeration, REBAR, LeaveOneOut, ScoreFunction)
"""Those to choose from, the one to try first on the left."""


def unbiased_for(fn: TorchDistribution, but: Callable[[Estimator], bool]) -> list[Estimator]:
    """The unbiased estimators that serve sites distributed as ``fn``, except for some."""
    estimators: list[Estimator] = [cls() for cls in UNBIASED]
    return [e for e in estimators if e.serves(fn) and e.is_unbiased_at(fn) and not but(e)]


def advise(fn: TorchDistribution, but: Callable[[Estimator], bool]) -> str:
    """A sentence that names them."""
    names = [_named(estimator) for estimator in unbiased_for(fn, but)]
    if not names:
        return "Configure no estimator for this site to get the default."
    return f"Use {' or '.join([', '.join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]}."


def _named(estimator: Estimator) -> str:
    name, least = type(estimator).__name__, estimator.min_particles
    return name if least == 1 else f"{name} (num_particles={least} or more)"
