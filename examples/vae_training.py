"""Training by SVI, with the test ELBO along the way, and its picture."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import torch
from datasets import Images
from matplotlib.figure import Figure
from pyro.infer import ELBO, SVI, Trace_ELBO
from pyro.optim import Adam
from report import progress
from torch import Tensor, nn
from training import stretches


@dataclass
class Run:
    """Test ELBO per image (nats) by step and by CPU seconds of training; the model at chosen steps."""

    curve: pd.DataFrame
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)


def binarised(intensities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binary images, each pixel 1 with its intensity as probability."""
    return torch.bernoulli(intensities, generator=generator)


def batches(intensities: Tensor, size: int) -> Iterator[Tensor]:
    """Binary images of a few rows each, without end."""
    while True:
        yield binarised(intensities[torch.randint(len(intensities), (size,))])


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
    svi: type[SVI] = SVI,
) -> Run:
    """Trains ``vae`` in place on binary images that are drawn again for every batch."""
    pyro.clear_param_store()
    trainer = svi(vae.model, vae.guide, Adam({"lr": learning_rate}), elbo)
    evaluate_at = {round(steps * i / num_evaluations) for i in range(num_evaluations + 1)}
    stops = progress(sorted(evaluate_at | set(snapshots_at)), description)
    rows, snapshots = [], {}
    for step, seconds in stretches(trainer, stops, batches=batches(images.train, batch_size)):
        if step in snapshots_at:
            snapshots[step] = deepcopy(vae.state_dict())
        if step in evaluate_at:
            rows.append((step, seconds, mean_elbo(vae, images)))
    return Run(pd.DataFrame(rows, columns=["step", "seconds", "test_elbo"]), snapshots)


@torch.no_grad()
def picture(run: Run, vae: nn.Module, images: Images, title: str, count: int = 8) -> Figure:
    """The test ELBO by step, some test images with their reconstructions, and draws of the prior."""
    x = binarised(images.test[:count], torch.Generator().manual_seed(0))
    posterior = vae.latent.posterior(vae.encoder(x)).sample()
    prior = vae.latent.prior(x).sample((len(x),))
    pixels = [vae.decoder(vae.latent.features(z)).sigmoid() for z in (posterior, prior)]
    rows = {"test image": x, "reconstruction": pixels[0], "from the prior": pixels[1]}

    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    axes = left.subplots()
    axes.plot(run.curve["step"], run.curve["test_elbo"], "o-", color="black", markersize=4)
    axes.set(xlabel="step", ylabel="test ELBO (nats per image)")
    axes.grid(alpha=0.3)
    side = round(images.pixels**0.5)
    for line, (label, shown) in zip(right.subplots(3, len(x)), rows.items(), strict=True):
        line[0].set_title(label, loc="left", fontsize=10)
        for cell, image in zip(line, shown, strict=True):
            cell.imshow(image.view(side, side).numpy(), cmap="gray_r", vmin=0, vmax=1)
            cell.axis("off")
    figure.suptitle(title)
    return figure
