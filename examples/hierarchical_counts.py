"""Counts with hierarchical rates: which form of the model does a guide fit, and does the fit know it?

The failures of ten pumps, or stops by the police of New York (Gelman and Hill, 2007, chapter 15) with
``--data-dir``. Each form of the model, with each guide, is fitted in one call, and compared with NUTS::

    python examples/hierarchical_counts.py
    python examples/hierarchical_counts.py --data-dir data/frisk
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
from counts import Counts, load, model
from hierarchical_counts_figure import draw
from mcmc import Chain, cpu_seconds, nuts
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.optim import ClippedAdam
from pyro.poutine import reparam
from report import Report, progress
from training import add_compile

import pyro_reparam_ext as pre

Program = Callable[[Counts], Any]

CANDIDATES = {
    "centred, mean-field": ("centred", AutoNormal),
    "non-centred, mean-field": ("non-centred", AutoNormal),
    "non-centred, full rank": ("non-centred", AutoMultivariateNormal),
}
"""Form of the model, and guide."""


def forms(data: Counts) -> dict[str, Program]:
    """The model as it is written, and with effects that are their scale times noise."""
    return {
        "centred": model,
        "non-centred": reparam(model, {factor: LocScaleReparam(0.0) for factor in data.levels}),
    }


def sampled(data: Counts, warmup: int, samples: int, seed: int) -> tuple[Chain, pd.DataFrame]:
    """NUTS of the non-centred model, and the posterior by it of all that the model itself names."""
    chain = nuts(forms(data)["non-centred"], data, warmup=warmup, samples=samples, seed=seed)
    values = {k: x for k, x in chain.samples.items() if not k.endswith("_decentered")}
    for factor in data.levels:
        scale = chain.samples[f"{factor}_scale"].reshape(-1, 1)
        values[factor] = scale * chain.samples[f"{factor}_decentered"]
    return chain, moments({k: x.numpy() for k, x in values.items()})


def moments(values: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean and sd of each coordinate, of arrays ``(draws, *shape)``."""
    rows = {}
    for name, x in sorted(values.items()):
        for i, column in enumerate(x.reshape(len(x), -1).T):
            rows[name, i] = {"mean": column.mean(), "sd": column.std(ddof=1)}
    return pd.DataFrame(rows).T


def fitted(form: Program, guide: Program, data: Counts, args: argparse.Namespace) -> pre.Fit:
    """A fit in one call, with a learning rate that decays, until the loss has stopped falling."""
    return pre.fit(
        form,
        guide,
        data,
        estimators=pre.Pathwise(),  # all there is to choose from, for sites that are all Normal
        num_particles=8,
        optim=ClippedAdam({"lr": 0.05, "lrd": 0.1 ** (1 / args.steps)}),
        num_steps=args.steps,
        until=pre.LossConverged(window=500, rtol=3e-3),  # .1 nats
        compiled=args.svi is pre.CompiledSVI,
        max_plate_nesting=1,
    )


def posterior(form: Program, guide: Program, data: Counts, draws: int) -> pd.DataFrame:
    """Mean and sd by the guide of all that the model itself names, whatever its form."""
    found = pre.posterior_datasets(form, guide, data, num_samples=draws)["posterior"]
    names = [name for name in found if not str(name).endswith("_decentered")]
    return moments({str(name): found[name].values[0] for name in names})


def row(label: str, fit: pre.Fit, found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """How far the guide is from NUTS, and what the check says of it by itself."""
    shift = ((found["mean"] - truth["mean"]) / truth["sd"]).abs()
    ratio = found["sd"] / truth["sd"]
    return {
        "form, guide": label,
        "steps": len(fit.losses),
        "converged": fit.run.converged,
        "ELBO": fit.elbo,
        "k-hat": fit.check.khat,
        "gap": fit.check.gap,
        "mean off, in sds": shift.max(),
        "of": named(shift.idxmax()),
        "least sd / NUTS": ratio.min(),
        "of ": named(ratio.idxmin()),
        "check": "ok" if fit.check.ok else "not ok",
    }


def named(coordinate: tuple[str, int]) -> str:
    return f"{coordinate[0]}[{coordinate[1]}]"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="folder with frisk_with_noise.dat; else pumps")
    add_compile(parser, "compile the steps of fits")
    parser.add_argument("--steps", type=int, default=1500, help="of a fit, at most")
    parser.add_argument("--draws", type=int, default=500, help="of a guide")
    parser.add_argument("--warmup", type=int, default=100, help="steps of NUTS before it samples")
    parser.add_argument("--samples", type=int, default=300, help="of NUTS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument(
        "--out", type=Path, default=Path("results/hierarchical_counts"), help="results folder"
    )
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.draws, args.warmup, args.samples = 20, 10, 5, 10
    return args


def main(args: argparse.Namespace) -> None:
    data, report = load(args.data_dir), Report(args.out)
    chain, truth = sampled(data, args.warmup, args.samples, args.seed)
    times = [{"": "NUTS", "CPU seconds": chain.seconds}]
    rows, sentences, tables = [], [], {"NUTS": truth}
    candidates = dict(list(CANDIDATES.items())[:1]) if args.smoke else CANDIDATES
    for label in progress(candidates, "fits"):
        name, kind = CANDIDATES[label]
        form = forms(data)[name]
        pyro.clear_param_store()
        pyro.set_rng_seed(args.seed)
        guide, start = kind(form), cpu_seconds()
        fit = fitted(form, guide, data, args)
        times.append({"": label, "CPU seconds": cpu_seconds() - start})
        tables[label] = posterior(form, guide, data, args.draws)
        rows.append(row(label, fit, tables[label], truth))
        sentences.append({"form, guide": label, "the check says": fit.check.advice})
    report.table(
        pd.DataFrame(rows),
        f"{data.name}: fits beside NUTS ({args.samples} samples, least effective sample size "
        f"{chain.least_ess:.0f}, {chain.divergent} divergent)",
    )
    report.table(pd.DataFrame(sentences), "What the check says", "sentences")
    report.table(pd.DataFrame(times), "CPU seconds, the check included", "seconds")
    report.picture(draw(tables, data.name))


if __name__ == "__main__":
    main(parse())
