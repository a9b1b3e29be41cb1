"""Short measurements of assignments of estimators, which go on where they left off."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..elbo import TraceEstimator_ELBO
from ..estimators.base import Estimator, least_particles
from .draws import Draws
from .elbo_call import ElboCall
from .measured import Measured
from .moments import Moments
from .names import shared
from .result import GradientStudy
from .sampler import Sampler
from .verdict import judged

if TYPE_CHECKING:
    from pandas import DataFrame

Assignment = Mapping[str, Estimator]
"""Estimators by the names of sites."""
WARMUP = 20
"""Steps in which what an estimator learns is learned first."""
TIMED = 5
"""Gradients that are timed."""


class Pilot:
    """Measures variance, bias and time of a program's gradient under assignments of estimators.

    Args:
        call: with any ELBO, whose number of plates is taken over.
        seed: of the random numbers.
    """

    def __init__(self, call: ElboCall, seed: int) -> None:
        self.call, self.seed = call, seed
        self._known: dict[Any, _Running] = {}

    def measure(self, assignments: Mapping[str, Assignment], num_draws: int) -> DataFrame:
        """A row on each label, as of :meth:`GradientStudy.summary`, by so many draws in all.

        Warnings of the program are not repeated: the ELBO that is used in the end has them.
        """
        with self._quietly():
            running = {label: self._running(x) for label, x in assignments.items()}
            names = shared([one.sampler for one in running.values()])
            measured = {label: self._drawn(one, names, num_draws) for label, one in running.items()}
            trusted = [m.moments for m in measured.values() if m.unbiased and not m.conditions]
            if trusted and len(measured) > 1:
                measured = judged(measured, trusted, names)
            summary = GradientStudy(measured, names, None).summary()
        summary["draws"] = [one.moments.count for one in running.values()]
        return summary

    def product(self, assignment: Assignment, num_draws: int, num_particles: int) -> float:
        """The work-normalised variance with so many particles."""
        with self._quietly():
            one = self._running(assignment, num_particles)
            names = shared([one.sampler])
            found = self._drawn(one, names, num_draws)
            return found.moments.variance(names)[0] * found.seconds

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield

    def _drawn(self, one: _Running, names: list[str], num_draws: int) -> Measured:
        self.seed += 1
        torch.manual_seed(self.seed)
        one.draw(names, num_draws)
        return one.measured()

    def _running(self, assignment: Assignment, num_particles: int = 1) -> _Running:
        particles = max(least_particles(assignment.values()), num_particles)
        key = (particles, *sorted((site, id(estimator)) for site, estimator in assignment.items()))
        if key not in self._known:
            self._known[key] = _Running.of(self.call, assignment, particles)
        return self._known[key]


@dataclass(eq=False)
class _Running:
    """One assignment: its sampler, its draws so far, and the time of a gradient."""

    sampler: Sampler
    moments: Moments
    draws: Draws | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, call: ElboCall, assignment: Assignment, num_particles: int) -> _Running:
        elbo = TraceEstimator_ELBO(
            dict(assignment),
            num_particles=num_particles,
            max_plate_nesting=call.elbo.max_plate_nesting,
        )
        sampler = Sampler(ElboCall(elbo, call.model, call.guide, call.args, call.kwargs))
        sampler.learn(WARMUP, _no_bar)
        return cls(sampler, Moments(deterministic=sampler.deterministic))

    def draw(self, names: list[str], count: int) -> None:
        """Draws up to ``count`` in all."""
        if self.draws is None:
            self.draws = Draws(self.sampler, names)
            # The least, as others on the machine only add to it.
            self.seconds = min(self.sampler.seconds(names, TIMED))
        needed = min(count, 1) if self.sampler.deterministic else count
        for chunk in self.draws.chunks(max(needed - self.moments.count, 0)):
            self.moments.add(chunk)

    def measured(self) -> Measured:
        sampler, batched = self.sampler, self.draws is not None and self.draws.batched
        return Measured(
            self.moments,
            {},
            sampler.unbiased,
            sampler.conditions,
            sampler.evaluations,
            self.seconds,
            batched,
            (self.seconds, self.seconds),
        )


def _no_bar(steps: int) -> None:
    """Nothing: no bar advances."""
