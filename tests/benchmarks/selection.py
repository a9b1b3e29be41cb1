"""What a selection of estimators costs, in training steps, and whether it chooses well.

``python -m tests.benchmarks.selection`` prints, for each of five programs, the time of
``select_estimators`` in training steps for each candidate and site (a step of each candidate is timed
by itself), and by how much the work-normalised variance of what it chooses is above the least of a
study of 2,000 draws of all candidates, under several seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.poutine.util import site_is_subsample

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.advice import unbiased_for
from pyro_reparam_ext.estimators.base import Estimator, least_particles

from ..study.programs import DATA, DigitsVAE, TwoLayers, guide, model
from .programs import binary_images

Program = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]
STEPS = 20
"""Training steps that are timed; the median counts."""


def poisson() -> Program:
    """Counts with a rate each, and a common rate."""
    counts = torch.tensor([3.0, 1.0, 4.0, 2.0, 6.0])

    def model() -> None:
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", 5):
            z = pyro.sample("z", dist.Poisson(rate))
            pyro.sample("x", dist.Normal(z, 1.0), obs=counts)

    def guide() -> None:
        a = pyro.param("a", torch.tensor(3.0), constraint=dist.constraints.positive)
        pyro.sample("rate", dist.Gamma(a, 1.0))
        with pyro.plate("data", 5):
            rates = pyro.param("rates", counts.clone(), constraint=dist.constraints.positive)
            pyro.sample("z", dist.Poisson(rates))

    return model, guide, ()


def mixed() -> Program:
    """A class and normal variables in a plate, below a normal variable."""
    data = torch.linspace(-2, 3, 20)

    def model() -> None:
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
        with pyro.plate("data", len(data)):
            k = pyro.sample("k", dist.OneHotCategorical(torch.ones(3) / 3))
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            loc = k @ torch.tensor([-2.0, 0.0, 2.0])
            pyro.sample("x", dist.Normal(loc + scale * w, 0.5), obs=data)

    def guide() -> None:
        pyro.sample("scale", dist.LogNormal(pyro.param("m", torch.tensor(0.1)), 0.3))
        with pyro.plate("data", len(data)):
            logits = pyro.param("logits", torch.zeros(len(data), 3))
            pyro.sample("k", dist.OneHotCategorical(logits=logits))
            pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(len(data))), 0.7))

    return model, guide, ()


def digits() -> Program:
    vae = DigitsVAE()
    return vae.model, vae.guide, (binary_images(50, 64),)


def two_layers() -> Program:
    layers = TwoLayers()
    return layers.model, layers.guide, (binary_images(20, 64),)


PROGRAMS: dict[str, Callable[[], Program]] = {
    "small": lambda: (model, guide, (DATA,)),
    "digits": digits,
    "two layers": two_layers,
    "poisson": poisson,
    "mixed": mixed,
}


def step_seconds(program: Program, chosen: dict[str, Estimator]) -> float:
    """The time of one training step."""
    model, guide, args = program
    elbo = pre.TraceEstimator_ELBO(
        chosen, num_particles=least_particles(chosen.values()), max_plate_nesting=1
    )
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), elbo)
    for _ in range(5):
        svi.step(*args)
    times = []
    for _ in range(STEPS):
        start = time.process_time()
        svi.step(*args)
        times.append(time.process_time() - start)
    return median(times)


def longer(program: Program, site: str, candidates: list[Estimator], chosen: Any) -> pd.DataFrame:
    """A study of 2,000 draws of all candidates of a site, the others as chosen."""
    model, guide, args = program
    labels = {repr(x): {**chosen, site: x} for x in candidates}
    elbos = {
        label: pre.TraceEstimator_ELBO(
            x, num_particles=least_particles(x.values()), max_plate_nesting=1
        )
        for label, x in labels.items()
    }
    study = pre.gradient_study(
        model, guide, *args, estimators=elbos, num_draws=2000, warmup=100, progress=False
    )
    return study.summary()


def measured(name: str, seeds: int, quality: bool) -> dict[str, Any]:
    """One row of the table."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    program = PROGRAMS[name]()
    model, guide, args = program
    trace = pyro.poutine.trace(guide).get_trace(*args)
    candidates = {
        site: unbiased_for(trace.nodes[site]["fn"], lambda x: False)
        for site in trace.stochastic_nodes
        if not site_is_subsample(trace.nodes[site])
    }
    first = {site: found[0] for site, found in candidates.items()}
    seconds = {
        (site, repr(x)): step_seconds(program, {**first, site: x})
        for site, found in candidates.items()
        for x in found
    }
    selections, costs = [], []
    for seed in range(seeds):
        start = time.process_time()
        selections.append(
            pre.select_estimators(model, guide, *args, seed=seed, max_plate_nesting=1, progress=False)
        )
        costs.append((time.process_time() - start) / sum(seconds.values()))
    row: dict[str, Any] = {"program": name, "candidates": len(seconds)}
    row["steps"] = [round(cost, 1) for cost in costs]
    row["chosen"] = [
        ", ".join(type(x).__name__ for x in s.values()) + f" * {s.num_particles}" for s in selections
    ]
    if quality:
        row["above the best"] = [
            round(max(above(program, site, found, s) for site, found in candidates.items()), 2)
            for s in selections
        ]
    return row


def above(program: Program, site: str, candidates: list[Estimator], selection: pre.Selection) -> float:
    """The share by which what was chosen at a site is above the best of a longer study."""
    table = longer(program, site, candidates, dict(selection))
    table = table[table["unbiased"]]
    norm = (table["variance"] / table["relative_variance"]).max()
    product = (table["variance"] + 0.01 * norm) * table["seconds_per_gradient"]
    return float(product[repr(selection[site])] / product.min() - 1)


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    rows = [measured(name, args.seeds, not args.quick) for name in args.only or PROGRAMS]
    print(pd.DataFrame(rows).set_index("program").to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PROGRAMS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="leave out the longer study")
    main(parser.parse_args())
