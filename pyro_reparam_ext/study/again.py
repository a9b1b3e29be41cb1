"""The programs of a study once more, at the parameters that it measured them at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..evaluation.invisible import invisible, parameter_restorer
from ..schedule import measuring
from .measured import Job, learned


class Again:
    """Programs that were measured, and the values of their parameters.

    Args:
        given: by label, what the study was asked to measure.
        jobs: by label, what was measured.
        seed: of the study; the number of a job makes it that of the job.
    """

    def __init__(self, given: Mapping[str, Any], jobs: Mapping[str, Job], seed: int) -> None:
        self.given, self.jobs, self.seed = dict(given), dict(jobs), seed
        self._store = parameter_restorer()
        leaves = {id(x): x for job in jobs.values() for x in job.sampler.parameters.values()}
        self._values = [(leaf, leaf.detach().clone()) for leaf in leaves.values()]

    @contextmanager
    def measured(self, label: str) -> Iterator[Job]:
        """The job of a label, as in the study: parameters, and what estimators had learned.

        Afterwards parameters, parameter store and random state are what they were before.
        """
        job, number = self.jobs[label], list(self.jobs).index(label)
        with invisible(job.sampler.call.model, job.sampler.call.guide), measuring():
            self._store()
            today = [leaf.data for leaf, _ in self._values]
            try:
                for leaf, value in self._values:
                    leaf.data = value
                with learned(job, (self.seed, number), lambda steps: None):
                    yield job
            finally:
                for (leaf, _), value in zip(self._values, today, strict=True):
                    leaf.data = value
