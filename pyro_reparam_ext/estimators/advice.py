"""Which estimators to advise where one can't serve a site."""

from __future__ import annotations

from collections.abc import Callable

from pyro.distributions import TorchDistribution
from torch.distributions import Bernoulli, Categorical

from ..distributions.rules.wrappers import innermost
from .base import Estimator
from .disarm import DisARM
from .enumeration import Enumeration
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .measure_valued import MeasureValued
from .pathwise import Pathwise
from .rebar import REBAR
from .score_function import ScoreFunction
from .sticking_the_landing import StickingTheLanding
from .stratified import Stratified
from .unordered_set import UnorderedSet

UNBIASED = (
    *(Pathwise, StickingTheLanding, Stratified, DisARM, LocalExpectation, MeasureValued),
    *(Enumeration, REBAR, UnorderedSet, LeaveOneOut, ScoreFunction),
)
"""Those to choose from, the one to try first on the left.

Not those below which another one was at the same cost wherever they were measured: ``ARM``, ``MuProp``,
``ARMS`` (as two pairs of DisARM). Nor those that learn for longer than a pilot takes: ``RELAX``,
``RODEO``, ``DoubleCV``, ``TaylorControlVariate``. Nor ``BitFlip``, whose number of flips is the
user's to say.
"""


def unbiased_for(fn: TorchDistribution, but: Callable[[Estimator], bool]) -> list[Estimator]:
    """The unbiased estimators that serve sites distributed as ``fn``, except for some."""
    base, less = innermost(fn), set[type]()
    estimators: list[Estimator] = [cls(4) if cls is UnorderedSet else cls() for cls in UNBIASED]
    found = [e for e in estimators if e.serves(fn) and e.is_unbiased_at(fn) and not but(e)]
    if Pathwise in map(type, found) or isinstance(base, (Bernoulli, Categorical)):
        # Measure-valued gradients are for counts: of few values they are the local expectation, and
        # where there is a path it takes one evaluation in place of several.
        less.add(MeasureValued)
    if isinstance(base, LocalExpectation.supported):
        less.add(UnorderedSet)  # for subsets and orders: classes can all be tried
    return [e for e in found if type(e) not in less]


def advise(fn: TorchDistribution, but: Callable[[Estimator], bool]) -> str:
    """A sentence that names them."""
    names = [_named(estimator) for estimator in unbiased_for(fn, but)]
    if not names:
        return "Configure no estimator for this site to get the default."
    return f"Use {' or '.join([', '.join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]}."


def _named(estimator: Estimator) -> str:
    name, least = type(estimator).__name__, estimator.min_particles
    return name if least == 1 else f"{name} (num_particles={least} or more)"
