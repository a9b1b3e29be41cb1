"""Short measurements of assignments of estimators, which go on where they left off."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
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
NEGLIGIBLE = 0.01
"""The variance, over the squared norm of the gradient, that is not worth much time."""
WARMUP = 10
"""Steps in which what an estimator learns is learned first."""
TIMED = 8
"""Gradients that are timed, at most, before some draws: as many as an eighth of the draws."""


class Pilot:
    """Measures variance, bias and time of a program's gradient under assignments of estimators.

    What is found of the program is found once, not for each assignment.

    Args:
        call: with any ELBO, after its first call.
        seed: of the random numbers.
        num_particles: at least so many.
    """

    def __init__(self, call: ElboCall, seed: int, num_particles: int = 1) -> None:
        self.call, self.seed, self.num_particles = call, seed, num_particles
        assert isinstance(call.elbo, TraceEstimator_ELBO)
        self._elbo = call.elbo.with_others(None, num_particles)
        self._known: dict[Any, _Running | Exception] = {}

    def measure(
        self, assignments: Mapping[str, Assignment], num_draws: int
    ) -> tuple[DataFrame, dict[str, Exception]]:
        """A row on each label, as of :meth:`GradientStudy.summary`, by so many draws in all.

        Warnings of the program are not repeated: the ELBO that is used in the end has them.

        Returns:
            A table of those that can be measured, and the errors of the others.
        """
        from pandas import DataFrame

        running: dict[str, _Running] = {}
        failed: dict[str, Exception] = {}
        with self._quietly():
            for label, assignment in assignments.items():
                one = self._running(assignment)
                if isinstance(one, Exception):
                    failed[label] = one
                else:
                    running[label] = one
            names = shared([one.sampler for one in running.values()]) if running else []
            failed |= self._timed({x: assignments[x] for x in running}, names, num_draws)
            for label in [x for x in running if x not in failed]:
                if error := self._drawn(assignments[label], names, num_draws):
                    failed[label] = error
            running = {label: one for label, one in running.items() if label not in failed}
            if not running:
                return DataFrame(), failed
            measured = {label: one.measured() for label, one in running.items()}
            trusted = [m.moments for m in measured.values() if m.unbiased and not m.conditions]
            if trusted and len(measured) > 1:
                measured = judged(measured, trusted, names)
            summary = GradientStudy(measured, names, None).summary()
        summary["draws"] = [one.moments.count for one in running.values()]
        return summary, failed

    def seconds(self, assignment: Assignment, num_particles: int) -> float:
        """The time of one gradient with so many particles."""
        with self._quietly():
            one = self._running(assignment, num_particles)
            if isinstance(one, Exception):
                raise one
            return one.timed(shared([one.sampler]), TIMED // 2)

    def product(self, assignment: Assignment, num_draws: int, num_particles: int) -> float:
        """The work-normalised variance with so many particles, with what is negligible added."""
        with self._quietly():
            one = self._running(assignment, num_particles)
            if isinstance(one, Exception):
                raise one
            names = shared([one.sampler])
            one.timed(names)
            error = self._drawn(assignment, names, num_draws, num_particles)
            if error is not None:
                raise error
            moments = one.moments
            variance = moments.variance(names)[0]
            norm = float(np.square(moments.flat_mean(names)).sum()) - variance / moments.count
            return (variance + NEGLIGIBLE * max(norm, 0.0)) * one.seconds

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield

    def _timed(
        self, assignments: Mapping[str, Assignment], names: list[str], num_draws: int
    ) -> dict[str, Exception]:
        """Times those that lack draws in turn, so that a busy minute slows all; the errors of some."""
        failed = {}
        for _ in range(min(TIMED, num_draws // 8)):
            for label in [x for x in assignments if x not in failed]:
                one = self._running(assignments[label])
                assert isinstance(one, _Running)
                try:
                    if one.lacks(num_draws):
                        one.timed(names)
                except Exception as error:
                    self._known[self._key(assignments[label], 1)] = failed[label] = error
        return failed

    def _drawn(
        self, assignment: Assignment, names: list[str], num_draws: int, num_particles: int = 1
    ) -> Exception | None:
        """Draws up to so many in all; the error, if these fail."""
        key, one = self._key(assignment, num_particles), self._running(assignment, num_particles)
        if isinstance(one, Exception):
            return one
        self.seed += 1
        torch.manual_seed(self.seed)
        try:
            one.draw(names, num_draws)
            return None
        except Exception as error:
            self._known[key] = error
            return error

    def _running(self, assignment: Assignment, num_particles: int = 1) -> _Running | Exception:
        key = self._key(assignment, num_particles)
        if key not in self._known:
            call, elbo = self.call, self._elbo.with_others(dict(assignment), key[0])
            try:
                self._known[key] = _Running.of(
                    ElboCall(elbo, call.model, call.guide, call.args, call.kwargs)
                )
            except Exception as error:
                self._known[key] = error
        return self._known[key]

    def _key(self, assignment: Assignment, num_particles: int) -> tuple[Any, ...]:
        particles = max(least_particles(assignment.values()), num_particles, self.num_particles)
        return (particles, *sorted((site, id(estimator)) for site, estimator in assignment.items()))


@dataclass(eq=False)
class _Running:
    """One assignment: its sampler, its draws so far, and the time of a gradient."""

    sampler: Sampler
    moments: Moments
    draws: Draws | None = None
    seconds: float = float("inf")

    @classmethod
    def of(cls, call: ElboCall) -> _Running:
        sampler = Sampler(call)
        sampler.learn(WARMUP, _no_bar)
        return cls(sampler, Moments(deterministic=sampler.deterministic))

    def timed(self, names: list[str], repeats: int = 1) -> float:
        """The least time so far, as others on the machine only add to it."""
        self.seconds = min(self.seconds, *self.sampler.seconds(names, repeats))
        return self.seconds

    def lacks(self, count: int) -> bool:
        """Whether there are fewer draws than ``count``; one is enough where all are the same."""
        return self.moments.count < (min(count, 1) if self.sampler.deterministic else count)

    def draw(self, names: list[str], count: int) -> None:
        """Draws up to ``count`` in all.

        Raises:
            EstimatorError: a gradient is not finite.
        """
        if self.draws is None:
            self.draws = Draws(self.sampler, names)
        if self.lacks(count):
            needed = 1 if self.sampler.deterministic else count - self.moments.count
            for chunk in self.draws.chunks(needed):
                self.moments.add(chunk)
        for name in names:
            if not np.isfinite(self.moments.mean[name]).all():
                raise EstimatorError(f"the gradient in parameter '{name}' is not finite")

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
