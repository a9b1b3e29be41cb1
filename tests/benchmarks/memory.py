"""Memory of one step of training by ``LocalExpectation``, of a VAE with many binary latents.

784 pixels and back, a hundred images: one evaluation for each latent besides the ordinary one.
``python -m tests.benchmarks --only memory`` prints the peak of memory (``ru_maxrss``) of processes that
do nothing else, the interpreter and torch included: 245 MiB before the first step. It has no times.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import pyro
import torch
from pyro.infer import SVI

import pyro_reparam_ext as pre

from .programs import BernoulliVAE, binary_images
from .timing import Row

BATCH, PIXELS = 100, 784
CASES = ((200, False), (200, True), (1000, False))
"""Latents, and whether the step is compiled: of 1,000 it takes many minutes to compile."""


def run(quick: bool = False) -> list[Row]:
    print(f"peak of memory of two steps by LocalExpectation, {PIXELS} pixels, batch {BATCH}\n")
    for latents, compiled in CASES[: 1 if quick else None]:
        arguments = [str(latents), *(["--compiled"] if compiled else [])]
        command = [sys.executable, "-W", "ignore", "-m", __name__, *arguments]
        subprocess.run(command, check=True)
    print(flush=True)
    return []


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    x, vae = binary_images(BATCH, PIXELS), BernoulliVAE(PIXELS, args.latents)
    estimator = pre.LocalExpectation(args.max_evaluations)
    elbo = pre.TraceEstimator_ELBO(estimator, max_plate_nesting=1)
    svi = (pre.CompiledSVI if args.compiled else SVI)(
        vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), elbo
    )
    svi.step(x), svi.step(x)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    law = pyro.poutine.trace(vae.guide).get_trace(x).nodes["z"]["fn"]
    how = "compiled" if args.compiled else "eager"
    evaluations = f"{estimator.evaluations(law)} evaluations"
    print(f"{args.latents} latents, {how}: {peak / 2**10:.0f} MiB, {evaluations}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Peak of memory of one step of training.")
    parser.add_argument("latents", type=int)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--max-evaluations", type=int, default=None)
    main(parser.parse_args())
