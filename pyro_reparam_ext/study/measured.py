"""The measurement of one label of a study: the job, how it is done, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..elbo import TraceEstimator_ELBO
from .conditions import Conditions
from .draws import Draws
from .moments import Moments
from .parts import all_drawn, split
from .sampler import Sampler

KEPT_BYTES = 2**28
"""Draws are kept as long as all together take no more memory than this."""

REPEATS = 7
"""Gradients that are timed."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Draws of one label's gradient, and what is known of it."""

    moments: Moments
    kept: dict[str, np.ndarray]
    unbiased: bool
    conditions: Conditions
    evaluations: int
    seconds: float
    batched: bool
    seconds_interval: tuple[float, float]
    """In which the median of the time of a gradient lies, by order statistics at about 88 %."""


@dataclass(frozen=True, eq=False)
class Job:
    """Draws to be made for one label, for the reference, or for the score function that checks it."""

    label: str
    sampler: Sampler
    draws: int
    warmup: int
    kept: int = 0


def needed(sampler: Sampler, num_draws: int) -> int:
    """One draw of a gradient without variance is enough."""
    return 1 if sampler.deterministic else num_draws


def kept_draws(sampler: Sampler, names: list[str], num_draws: int, labels: int) -> int:
    """How many draws of each of so many labels are kept."""
    bytes_per_draw = sum(sampler.parameters[name].nbytes for name in names) * labels
    return max(1, min(num_draws, KEPT_BYTES // max(bytes_per_draw, 1)))


def direction_of(
    sampler: Sampler, names: list[str], num_draws: int, seed: int
) -> dict[str, torch.Tensor]:
    """The gradient, roughly, by draws that are used for nothing else."""
    moments = Moments()
    torch.manual_seed(seed)
    for chunk in Draws(sampler, names).chunks(needed(sampler, num_draws)):
        moments.add(chunk)
    norm = float(np.linalg.norm(moments.flat_mean(names))) or 1.0
    return {
        name: torch.as_tensor(moments.mean[name] / norm).to(sampler.parameters[name]) for name in names
    }


@contextmanager
def learned(job: Job, seed: tuple[int, int], advance: Callable[[int], Any]) -> Iterator[None]:
    """The estimators of a job have learned in its warm-up inside, and forget it afterwards."""
    elbo = job.sampler.call.elbo
    states = elbo.states if isinstance(elbo, TraceEstimator_ELBO) else nn.ModuleDict()
    before = deepcopy(states.state_dict())
    try:
        torch.manual_seed(seed[0] + 1_000_003 * seed[1])
        job.sampler.learn(job.warmup, advance)
        yield
    finally:
        states.load_state_dict(before)


def measure(
    job: Job,
    names: list[str],
    direction: dict[str, torch.Tensor],
    seed: tuple[int, int],
    executor: Executor | None,
    bar: tqdm,
) -> Measured:
    """Makes the draws of a job; what its estimators learn meanwhile is forgotten afterwards.

    ``seed``: of the study, and the number of the job.
    """
    sampler = job.sampler
    with learned(job, seed, bar.update):
        draws, moments = Draws(sampler, names), Moments(direction, sampler.deterministic)
        kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for part in all_drawn(draws, split(job.draws, draws.size, job.kept, seed), moments, executor):
            moments.merge(part.moments)
            for name in names:
                kept[name].append(part.kept[name])
            bar.update(part.moments.count)
        seconds = sorted(sampler.seconds(names, repeats=REPEATS))
        return Measured(
            moments,
            {name: np.concatenate(parts) for name, parts in kept.items()},
            sampler.unbiased,
            sampler.conditions,
            sampler.evaluations,
            seconds[REPEATS // 2],
            draws.batched,
            (seconds[1], seconds[-2]),
        )
