"""Gaussian guides of two regressions: which gradient has the least noise at the start, and at the end?

A logistic regression of breast cancer (569 cells, 30 features), or stops by the police of New York,
hierarchical Poisson counts (Gelman and Hill, 2007, chapter 15), with ``--data-dir``. The gradient of a
mean-field guide is measured at the start of a run, soon after, and at its end::

    python examples/regression.py
    python examples/regression.py --data-dir data/frisk
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from counts import WEAPONS, load
from counts import model as counts_model
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam
from regression_figure import draw
from report import Report, progress
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from training import add_compile, stretches

import pyro_reparam_ext as pre

PARTICLES = 16
METHODS: dict[str, tuple[pre.estimators.Estimator, str]] = {
    "pathwise": (pre.Pathwise(), "independent"),
    "sticking the landing": (pre.StickingTheLanding(), "independent"),
    "antithetic": (pre.Pathwise(), "antithetic"),
    "Latin hypercube": (pre.Pathwise(), "latin_hypercube"),
    "Sobol": (pre.Pathwise(), "sobol"),
    "orthogonal": (pre.Pathwise(), "orthogonal"),
    "landing, antithetic": (pre.StickingTheLanding(), "antithetic"),
    "landing, Sobol": (pre.StickingTheLanding(), "sobol"),
    "Taylor": (pre.TaylorControlVariate(), "independent"),
    "Taylor, Sobol": (pre.TaylorControlVariate(), "sobol"),
    "full Taylor, Sobol": (pre.TaylorControlVariate(num_probes=32, per_particle=True), "sobol"),
}
"""Estimator and scheme of the particles, by the names in tables and pictures."""

WARMUP = 200
"""Steps in which coefficients of control variates are fitted before a gradient is measured."""

Model = Callable[..., Any]


def cells() -> tuple[Tensor, Tensor]:
    """Standardised features with a constant, and whether a cell is benign."""
    x, benign = load_breast_cancer(return_X_y=True)
    features = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    return torch.cat([torch.ones(len(x), 1), features], 1), torch.tensor(benign, dtype=torch.float32)


def logistic(x: Tensor, benign: Tensor, batch: int | None = None) -> None:
    """Coefficients with standard normal priors. ``batch``: cells that are looked at, all if None."""
    coefficients = pyro.sample("coefficients", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("cells", len(x), subsample_size=batch) as i:
        logits = (coefficients * x[i]).sum(-1)
        pyro.sample("benign", dist.Bernoulli(logits=logits), obs=benign[i])


def elbo_of(name: str, num_particles: int = PARTICLES) -> pre.TraceEstimator_ELBO:
    estimator, particles = METHODS[name]
    return pre.TraceEstimator_ELBO(
        estimator, num_particles=num_particles, particles=particles, max_plate_nesting=2
    )


def measured(model: Model, guide: AutoNormal, data: tuple, draws: int) -> pd.DataFrame:
    """Of each method the variance of a gradient, by the kind of parameter, and its time."""
    study = pre.gradient_study(
        model,
        guide,
        *data,
        estimators={name: elbo_of(name) for name in METHODS},
        num_draws=draws,
        warmup=WARMUP,
    )
    names = list(pyro.get_param_store())
    kinds = {
        "means": [name for name in names if ".locs." in name],
        "scales": [name for name in names if ".scales." in name],
        "all": names,
    }
    columns = {kind: study.summary(params=params).variance for kind, params in kinds.items()}
    summary = study.summary()
    return pd.DataFrame(columns).assign(
        seconds=summary.seconds_per_gradient, bias_z=summary.bias_z, norm=summary.relative_variance
    )


def gains(variances: pd.DataFrame, phase: str) -> pd.DataFrame:
    """The variance of the plain gradient over that of each method."""
    ratios = variances.loc["pathwise"] / variances
    return pd.DataFrame(
        {
            "phase": phase,
            "method": variances.index,
            **{kind: ratios[kind].to_numpy() for kind in ("means", "scales", "all")},
            "all, per time": (ratios["all"] * ratios["seconds"]).to_numpy(),
            "bias z": variances["bias_z"].to_numpy(),
            "variance / norm^2": variances["norm"].to_numpy(),
        }
    )


def batches_or_particles(
    guide: AutoNormal, data: tuple[Tensor, Tensor], batch: int, draws: int
) -> pd.DataFrame:
    """From the shares of the plate: what 4 times the particles, or the batch, are worth."""
    particles = pre.TraceEstimator_ELBO(num_particles=4, max_plate_nesting=2)
    study = pre.gradient_study(
        partial(logistic, batch=batch),
        guide,
        *data,
        estimators={
            "plain": pre.Pathwise(),
            "4 particles": particles,
            "4 batches": pre.Variant(pre.Pathwise(), model=partial(logistic, batch=4 * batch)),
        },
        num_draws=draws,
    )
    shares, rows = study.attribution("plain", num_pairs=draws), []
    for name in shares.index:
        variance, share = study.summary(params=[name]).variance, shares.loc[name]
        plate = share["plate:cells"]
        size, of_batch = len(data[0]), plate + share["interaction"]
        smaller = (size - 4 * batch) / (4 * batch) / ((size - batch) / batch)
        rows.append(
            {
                "parameter": name.split(".")[1],
                "share of the plate": plate,
                "4 particles, expected": plate + (1 - plate) / 4,
                "4 particles": variance["4 particles"] / variance["plain"],
                "4 batches, expected": 1 - of_batch + of_batch * smaller,
                "4 batches": variance["4 batches"] / variance["plain"],
            }
        )
    return pd.DataFrame(rows)


def trained(name: str, model: Model, data: tuple, args: argparse.Namespace) -> pd.DataFrame:
    """The ELBO along a run of one method at a constant learning rate, and the CPU seconds until then.

    By as many particles, under the same noise each time, as tell it to a hundredth of a nat.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(args.seed)
    guide = AutoNormal(model, init_scale=0.1)
    svi = args.svi(model, guide, ClippedAdam({"lr": args.rate}), elbo_of(name))
    many = pre.TraceEstimator_ELBO(num_particles=2048, particles="sobol", max_plate_nesting=2)
    rows = []
    for step, seconds in stretches(svi, range(args.every, args.look + 1, args.every), *data):
        with torch.random.fork_rng(devices=[]):
            for _ in range(2):  # the first call learns how many dims there are
                torch.manual_seed(args.seed)
                elbo = -many.loss(model, guide, *data)
        rows.append({"method": name, "steps": step, "seconds": seconds, "ELBO": elbo})
    return pd.DataFrame(rows)


def reached(runs: pd.DataFrame, within: float = 0.5) -> pd.DataFrame:
    """When each method first was within so many nats of the best ELBO, and where it hovers then."""
    best, rows = runs["ELBO"].max(), []
    for name, run in runs.groupby("method", sort=False):
        near = run[run["ELBO"] >= best - within]
        first = near.iloc[0] if len(near) else pd.Series({"steps": None, "seconds": None})
        rows.append(
            {
                "method": name,
                f"steps to {within} nats": first["steps"],
                "CPU seconds": first["seconds"],
                "nats off, last 10 looks": (best - run["ELBO"].tail(10)).mean(),
            }
        )
    return pd.DataFrame(rows)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="folder with frisk_with_noise.dat; else cells")
    add_compile(parser)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--look", type=int, default=600, help="steps of runs that are compared")
    parser.add_argument("--every", type=int, default=20, help="steps between looks at their ELBO")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate")
    parser.add_argument("--draws", type=int, default=1000, help="gradients of each method")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/regression"), help="results folder")
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.look, args.every, args.draws = 4, 4, 2, 10
    return args


def main(args: argparse.Namespace) -> None:
    report = Report(args.out)
    if args.data_dir is None:
        title, model, data = "breast cancer", logistic, cells()
    else:
        counts = load(args.data_dir, WEAPONS)
        title, model, data = counts.name, counts_model, (counts,)
    pyro.set_rng_seed(args.seed)
    guide = AutoNormal(model, init_scale=0.1)
    optim = ClippedAdam({"lr": args.rate, "lrd": 0.1 ** (1 / args.steps)})
    svi = args.svi(model, guide, optim, elbo_of("landing, antithetic"))
    svi.step(*data)
    tables = [gains(measured(model, guide, data, args.draws), "start")]
    early = max(1, args.steps // 20)
    phases = {early: f"step {early}", args.steps: "end"}
    for step, _ in stretches(svi, sorted({*phases}), *data):
        tables.append(gains(measured(model, guide, data, args.draws), phases[step]))
    table = pd.concat(tables)
    heading = f"{title}: variance of the plain gradient over that of each, {PARTICLES} particles"
    report.table(table, heading)
    if args.data_dir is None:
        shares = batches_or_particles(guide, data, args.batch, args.draws)
        report.table(shares, f"More particles or a larger batch than {args.batch}?", "batches")
    names = list(METHODS)[:2] if args.smoke else METHODS
    runs = pd.concat(trained(name, model, data, args) for name in progress(names, "runs"))
    report.table(reached(runs), "Until the ELBO is near the best one", "reached")
    report.picture(draw(table, runs, title))


if __name__ == "__main__":
    main(parse())
