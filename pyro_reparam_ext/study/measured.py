"""What is to be measured of one label of a study, how, and what was."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..elbo import TraceEstimator_ELBO
from .conditions import Conditions
from .moments import Moments
from .sampler import Sampler

KEPT_BYTES = 2**28
"""Draws are kept as long as all together take no more memory than this."""


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


def direction_of(sampler: Sampler, names: list[str], num_draws: int) -> dict[str, torch.Tensor]:
    """The gradient, roughly, by draws that are used for nothing else."""
    moments = Moments()
    for chunk in sampler.draws(names, needed(sampler, num_draws)):
        moments.add(chunk)
    norm = float(np.linalg.norm(moments.flat_mean(names))) or 1.0
    return {
        name: torch.as_tensor(moments.mean[name] / norm).to(sampler.parameters[name]) for name in names
    }


def measure(job: Job, names: list[str], direction: dict[str, torch.Tensor], bar: tqdm) -> Measured:
    """Makes the draws of a job; what its estimators learn meanwhile is forgotten afterwards."""
    sampler = job.sampler
    elbo = sampler.program.elbo
    states = elbo.states if isinstance(elbo, TraceEstimator_ELBO) else nn.ModuleDict()
    before = deepcopy(states.state_dict())
    try:
        sampler.learn(job.warmup, bar.update)
        kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
        moments, left = Moments(direction, sampler.deterministic), job.kept
        for chunk in sampler.draws(names, job.draws):
            moments.add(chunk)
            for name in names:
                kept[name].append(chunk[name][:left].detach().cpu().numpy())
            count = len(chunk[names[0]])
            left = max(0, left - count)
            bar.update(count)
        return Measured(
            moments,
            {name: np.concatenate(parts) for name, parts in kept.items()},
            sampler.unbiased,
            sampler.conditions,
            sampler.evaluations,
            sampler.seconds(names, repeats=7),
            sampler.batched,
        )
    finally:
        states.load_state_dict(before)
