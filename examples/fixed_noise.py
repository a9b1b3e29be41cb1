"""A hierarchical model fitted by L-BFGS on noise that is drawn once: how many draws are enough?

The failures of ten pumps, or stops by the police of New York (Gelman and Hill, 2007, chapter 15) with
``--data-dir``, by a mean-field guide of the non-centred form::

    python examples/fixed_noise.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import torch
from counts import Counts, load, model
from matplotlib.figure import Figure
from pyro.infer.autoguide import AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.optim import ClippedAdam
from pyro.poutine import reparam
from report import Report, progress
from style import BLUE, GREY, VERMILION
from training import add_compile

import pyro_reparam_ext as pre

DRAWS = (4, 16, 64, 256, 1024)
Form = Callable[[Counts], Any]


def elbo_of(num_particles: int, particles: str) -> pre.TraceEstimator_ELBO:
    return pre.TraceEstimator_ELBO(
        num_particles=num_particles,
        particles=particles,
        vectorize_particles="vmap",
        max_plate_nesting=2,
    )


def by_lbfgs(form: Form, data: Counts, draws: int) -> tuple[AutoNormal, dict[str, float]]:
    """A guide at the minimum of a deterministic loss, and what that took."""
    guide = AutoNormal(form)
    guide(data)
    elbo, evaluations = elbo_of(draws, "fixed"), 0
    optimizer = torch.optim.LBFGS(guide.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = elbo.differentiable_loss(form, guide, data)
        loss.backward()
        return loss

    start = time.process_time()
    optimizer.step(closure)
    seconds = time.process_time() - start
    own = -elbo.loss(form, guide, data)
    return guide, {"gradients": evaluations, "CPU seconds": seconds, "of its own draws": own}


def by_svi(form: Form, data: Counts, args: argparse.Namespace) -> tuple[AutoNormal, dict[str, float]]:
    """The same guide by steps of Adam, with fresh noise in each."""
    guide = AutoNormal(form)
    optim = ClippedAdam({"lr": 0.05, "lrd": 0.1 ** (1 / args.steps)})
    svi = args.svi(form, guide, optim, elbo_of(8, "independent"))
    start = time.process_time()
    pre.run_svi(svi, args.steps, data, progress=False)
    return guide, {"gradients": args.steps, "CPU seconds": time.process_time() - start}


def evaluated(form: Form, guide: AutoNormal, data: Counts, draws: int = 4096) -> float:
    """The ELBO, by many fresh draws that are the same for all guides."""
    many = elbo_of(draws, "sobol")
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):  # the first call learns how many dims there are
            torch.manual_seed(0)
            elbo = -many.loss(form, guide, data)
    return elbo


def draw(table: pd.DataFrame, title: str) -> Figure:
    """The ELBO that each number of draws ends at, and what its own draws say it is."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    fixed, svi = table[table["draws"].notna()], table[table["draws"].isna()]
    axes.plot(fixed["draws"], fixed["of its own draws"], "s", color=VERMILION, label="by its own draws")
    axes.plot(fixed["draws"], fixed["ELBO"], "o", color=BLUE, label="ELBO")
    level = svi["ELBO"].mean()
    axes.axhline(level, color=GREY, linewidth=1, label="SVI")
    spread = max(1.0, 2 * abs(fixed["of its own draws"] - level).max())
    axes.set(xscale="log", xlabel="draws, fixed", ylabel="nats", ylim=(level - spread, level + spread))
    axes.legend(frameon=False)
    axes.set_title(f"Mean-field guides of the {title} by L-BFGS")
    return figure


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="folder with frisk_with_noise.dat; else pumps")
    add_compile(parser, "compile the steps of SVI")
    parser.add_argument("--steps", type=int, default=2000, help="of SVI")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/fixed_noise"), help="results folder")
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.seeds = 5, 1
    return args


def main(args: argparse.Namespace) -> None:
    data, report = load(args.data_dir), Report(args.out)
    form = reparam(model, {factor: LocScaleReparam(0.0) for factor in data.levels})
    counts: list[int | None] = [*DRAWS[: 2 if args.smoke else None], None]
    rows = []
    for seed in progress(range(args.seeds), "seeds"):
        for draws in counts:
            pyro.clear_param_store()
            pyro.set_rng_seed(seed)
            found = by_svi(form, data, args) if draws is None else by_lbfgs(form, data, draws)
            guide, said = found
            method = "SVI" if draws is None else "L-BFGS"
            elbo = evaluated(form, guide, data)
            rows.append({"method": method, "draws": draws, "seed": seed, "ELBO": elbo, **said})
    table = pd.DataFrame(rows).sort_values(["method", "draws", "seed"])
    report.table(table, f"{data.name}: mean-field guides of the non-centred form")
    report.picture(draw(table, data.name))


if __name__ == "__main__":
    main(parse())
