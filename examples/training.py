"""Training by SVI, with the test ELBO along the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, field

import pandas as pd
import pyro
import torch
from datasets import Images
from pyro.infer import ELBO, SVI, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor, nn
from tqdm import tqdm


@dataclass
class Run:
    """Test ELBO per image (nats) by step and by seconds of training; the model at chosen steps."""

    curve: pd.DataFrame
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)


def binarised(intensities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binary images, each pixel 1 with its intensity as probability."""
    return torch.bernoulli(intensities, generator=generator)


def mean_elbo(vae: nn.Module, images: Images) -> float:
    """The ELBO per test image, always at hard values of discrete latents."""
    x = binarised(images.test, torch.Generator().manual_seed(0))
    num_particles = max(1, 2000 // len(x))
    elbo = Trace_ELBO(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)
    return -sum(elbo.loss(vae.model, vae.guide, part) for part in x.split(500)) / len(x)


def train(
    vae: nn.Module,
    elbo: ELBO,
    images: Images,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    snapshots_at: Collection[int] = (),
    num_evaluations: int = 12,
    description: str = "training",
) -> Run:
    """Trains ``vae`` in place on binary images that are drawn again for every batch."""
    pyro.clear_param_store()
    svi = SVI(vae.model, vae.guide, Adam({"lr": learning_rate}), elbo)
    evaluate_at = {round(steps * i / num_evaluations) for i in range(num_evaluations + 1)}
    rows, snapshots, seconds = [], {}, 0.0
    for step in tqdm(range(steps + 1), desc=description, disable=not sys.stderr.isatty()):
        if step in snapshots_at:
            snapshots[step] = deepcopy(vae.state_dict())
        if step in evaluate_at:
            rows.append((step, seconds, mean_elbo(vae, images)))
        if step < steps:
            start = time.perf_counter()
            index = torch.randint(len(images.train), (batch_size,))
            svi.step(binarised(images.train[index]))
            seconds += time.perf_counter() - start
    return Run(pd.DataFrame(rows, columns=["step", "seconds", "test_elbo"]), snapshots)
