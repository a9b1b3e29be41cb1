"""A variational autoencoder on digits, trained by several processes, each on its share of the images.

By torch's ``DistributedDataParallel``, and by ``CompiledSVI``::

    torchrun --standalone --nproc-per-node 2 examples/distributed.py
    torchrun --standalone --nproc-per-node 2 examples/distributed.py --compile

Without ``torchrun`` it is one process, to compare with. A step has the same number of images in all.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from datasets import load
from pyro.infer import Trace_ELBO
from report import Report
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import pyro_reparam_ext as pre

LATENTS, HIDDEN = 32, 64
FIRST = 3
"""Steps that are not timed: they make the parameters, and compile."""


class Model(nn.Module):
    """Binary pixels from binary latents. The loss is that of all images, whichever a step has."""

    def __init__(self, pixels: int, images: int) -> None:
        super().__init__()
        self.images = images
        self.decoder = nn.Sequential(
            nn.Linear(LATENTS, HIDDEN), nn.LeakyReLU(0.3), nn.Linear(HIDDEN, pixels)
        )

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("images", self.images, subsample=x):
            z = pyro.sample("z", dist.Bernoulli(logits=x.new_zeros(LATENTS)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)


class Guide(nn.Module):
    """Binary latents from pixels."""

    def __init__(self, pixels: int, images: int) -> None:
        super().__init__()
        self.images = images
        self.encoder = nn.Sequential(
            nn.Linear(pixels, HIDDEN), nn.LeakyReLU(0.3), nn.Linear(HIDDEN, LATENTS)
        )

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("images", self.images, subsample=x):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


Step = Callable[[Tensor], object]


def ddp_step(model: Model, guide: Guide, elbo: pre.TraceEstimator_ELBO, rate: float, x: Tensor) -> Step:
    """Steps by autograd and an optimiser of torch."""
    loss: nn.Module = elbo(model, guide)
    with torch.no_grad():
        loss(x)  # makes what estimators learn, which DDP has to find
    if distributed.is_initialized():
        loss = DistributedDataParallel(loss)
    optimiser = torch.optim.Adam(loss.parameters(), lr=rate)

    def step(x: Tensor) -> None:
        optimiser.zero_grad()
        loss(x).backward()
        optimiser.step()

    return step


def compiled_step(model: Model, guide: Guide, elbo: pre.TraceEstimator_ELBO, rate: float) -> Step:
    """Steps by ``CompiledSVI``."""
    group = distributed.group.WORLD if distributed.is_initialized() else None
    return pre.CompiledSVI(model, guide, pyro.optim.Adam({"lr": rate}), elbo, group=group).step


def batches(share: Tensor, size: int) -> Iterator[Tensor]:
    """Binary images, each pixel 1 with its intensity as probability; without end."""
    while True:
        yield torch.bernoulli(share[torch.randint(len(share), (size,))])


def mean_elbo(model: Model, guide: Guide, images: Tensor) -> float:
    """The ELBO per test image, in nats."""
    x = torch.bernoulli(images, generator=torch.Generator().manual_seed(0))
    elbo = Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1)
    return -elbo.loss(model, guide, x) / model.images


def are_alike(modules: nn.Module) -> bool:
    """Whether all processes have the same parameters, to the bit."""
    if not distributed.is_initialized():
        return True
    mine = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in modules.parameters()))
    found = [""] * distributed.get_world_size()
    distributed.all_gather_object(found, mine.hexdigest())
    return len(set(found)) == 1


def train(args: argparse.Namespace, rank: int, size: int) -> tuple[dict[str, object], nn.Module]:
    """One row of the table, and what was trained."""
    pyro.clear_param_store()
    images = load()
    pyro.set_rng_seed(args.seed)
    model, guide = (kind(images.pixels, len(images.train)) for kind in (Model, Guide))
    elbo = pre.TraceEstimator_ELBO(getattr(pre, args.estimator)())
    pyro.set_rng_seed(args.seed + rank)  # from here on, random numbers of its own
    source = batches(images.train[rank::size], args.batch_size // size)
    if args.compile:
        step = compiled_step(model, guide, elbo, args.learning_rate)
    else:
        step = ddp_step(model, guide, elbo, args.learning_rate, next(source))
    for _ in range(FIRST):
        step(next(source))
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(args.steps):
        step(next(source))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    trained = nn.ModuleList([model, guide])
    row = {
        "processes": size,
        "trained by": "CompiledSVI" if args.compile else "DDP" if size > 1 else "autograd",
        "images a step": args.batch_size // size * size,
        "ms a step": 1000 * seconds / args.steps,
        "CPU ms a step": 1000 * cpu / args.steps,
        "test ELBO": mean_elbo(model, guide, images.test),
        "alike": are_alike(trained),
    }
    return row, trained


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--compile", action="store_true", help="train by CompiledSVI")
    parser.add_argument("--estimator", choices=["REBAR", "DisARM", "LocalExpectation"], default="REBAR")
    parser.add_argument("--steps", type=int, default=2000, help="optimisation steps")
    parser.add_argument("--batch-size", type=int, default=200, help="images a step, of all processes")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/distributed"), help="results folder")
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps = 3
    return args


def main(args: argparse.Namespace) -> None:
    if "RANK" in os.environ:  # started by torchrun
        distributed.init_process_group("gloo")
    rank, size = 0, 1
    if distributed.is_initialized():
        rank, size = distributed.get_rank(), distributed.get_world_size()
    row, trained = train(args, rank, size)
    if rank == 0:
        report = Report(args.out)
        title = f"A VAE on digits, {args.estimator}, {args.steps} steps of {size} processes"
        report.table(pd.DataFrame([row]), title, f"{row['trained by']}-{size}".lower())
        report.save("vae.pt", lambda path: torch.save(trained.state_dict(), path))
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(parse())
