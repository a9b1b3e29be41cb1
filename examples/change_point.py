"""When did coal mining become safer? A change point by SVI, by NUTS, and exactly.

The posterior of the year and of the rates before and after it is a sum over the years, so that all
that a fit says of itself can be checked: has it converged, is the guide too poor, or is the estimator
too noisy? ::

    python examples/change_point.py
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch
from change_point_figure import draw
from coal_mining import (
    DISASTERS,
    GUIDES,
    RATES,
    Law,
    Program,
    best_mean_field,
    divergence,
    exact,
    law_of,
    model,
    switch_given,
)
from mcmc import Chain, cpu_seconds, nuts
from pyro.infer import config_enumerate
from pyro.optim import ClippedAdam
from report import Report
from training import add_compile

import pyro_reparam_ext as pre

NOISE = {
    "ScoreFunction": {"switch": pre.ScoreFunction()},
    "LeaveOneOut, 2 particles": pre.TraceEstimator_ELBO(
        {"switch": pre.LeaveOneOut()}, num_particles=2, max_plate_nesting=1
    ),
    "LocalExpectation": {"switch": pre.LocalExpectation()},
    "Enumeration": {"switch": pre.Enumeration()},
}
"""Estimators for the year whose noise is compared; the rates are pathwise."""


def fitted(guide: Program, args: argparse.Namespace, **options: Any) -> pre.Fit:
    """A fit in one call, with a learning rate that decays, until the loss has stopped falling.

    The default rule looks at the parameters, and waits for the logits of years that are of no matter.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(args.seed)
    given = {
        "optim": ClippedAdam({"lr": 0.05, "lrd": 0.1 ** (1 / args.steps), "clip_norm": math.inf}),
        "num_steps": args.steps,
        "until": pre.LossConverged(window=500),
        "compiled": args.svi is pre.CompiledSVI,
        "max_plate_nesting": 1,
    }
    return pre.fit(model, guide, DISASTERS, **{**given, **options})


def row(label: str, law: Law, fit: pre.Fit | None = None) -> dict[str, Any]:
    """How far a law is from the posterior, exactly, and what the check of its fit says by itself."""
    moments, truth = law.moments(), exact(DISASTERS)[1].moments()
    off = (moments["mean"] - truth["mean"]) / truth["sd"]
    cells = {
        "fit": label,
        "KL": divergence(law, DISASTERS),
        **{f"{name} off": off[name] for name in moments.index},
        **{f"sd of {name}": moments["sd"][name] / truth["sd"][name] for name in moments.index},
        "early with year": moments["with year"]["early"],
    }
    if fit is not None:
        sites = fit.check.sites
        cells |= {
            "steps": len(fit.losses),
            "converged": fit.run.converged,
            "k-hat": fit.check.khat,
            "gap": fit.check.gap,
            "sd of switch, by the check": 1 / sites.loc["switch", "sd_ratio"],
            "check": "ok" if fit.check.ok else "not ok",
        }
    return cells


def marginals(guide: Program, chain: Chain) -> pd.DataFrame:
    """Mean and sd of each latent site: exactly, by the guide with Monte Carlo errors, and by NUTS."""
    table = pre.marginals(model, guide, DISASTERS, max_plate_nesting=1).droplevel("index")
    frame = exact(DISASTERS)[1].moments()[["mean", "sd"]].rename(columns="exact {}".format)
    for column in ("mean", "sd"):
        frame[f"guide {column}"] = table[column]
        frame[f"± {column}"] = table[f"{column}_error"]
    years = torch.arange(len(DISASTERS), dtype=torch.float64)
    rates = [chain.samples[name].double() for name in RATES]
    probs = switch_given(DISASTERS, *rates).mean(0)
    frame.loc["switch", "NUTS mean"] = mean = (probs @ years).item()
    frame.loc["switch", "NUTS sd"] = (probs @ (years - mean) ** 2).sqrt().item()
    for name, x in zip(RATES, rates, strict=True):
        frame.loc[name, ["NUTS mean", "NUTS sd"]] = x.mean().item(), x.std().item()
    return frame.rename_axis("site").reset_index()


def noise(guide: Program, draws: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Variance of the gradient by each estimator where the parameters are, and where it comes from."""
    study = pre.gradient_study(
        model,
        guide,
        DISASTERS,
        estimators={
            label: given
            if isinstance(given, pre.TraceEstimator_ELBO)
            else pre.TraceEstimator_ELBO(given, max_plate_nesting=1)
            for label, given in NOISE.items()
        },
        num_draws=draws,
        seed=seed,
    )
    columns = ["evaluations", "variance", "variance_low", "variance_high", "bias_z"]
    shares = [
        study.attribution(label, num_pairs=draws).assign(estimator=label).reset_index()
        for label in ("ScoreFunction", "Enumeration")
    ]
    return study.summary()[columns].reset_index(), pd.concat(shares)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser, "compile the steps of fits")
    parser.add_argument("--steps", type=int, default=3000, help="of a fit, at most")
    parser.add_argument("--draws", type=int, default=100, help="gradients of each estimator")
    parser.add_argument("--warmup", type=int, default=100, help="steps of NUTS before it samples")
    parser.add_argument("--samples", type=int, default=200, help="of NUTS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/change_point"), help="results folder")
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.draws, args.warmup, args.samples = 5, 5, 5, 5
    return args


def main(args: argparse.Namespace) -> None:
    report = Report(args.out)
    start = cpu_seconds()
    posterior = exact(DISASTERS)[1]
    times = [{"": "exact", "CPU seconds": cpu_seconds() - start}]
    chain = nuts(
        config_enumerate(model), DISASTERS, warmup=args.warmup, samples=args.samples, seed=args.seed
    )
    times.append({"": "NUTS, the year summed over", "CPU seconds": chain.seconds})

    mean_field = GUIDES["mean-field"]
    sites = pre.inspect_sites(
        model, mean_field, DISASTERS, elbo=pre.TraceEstimator_ELBO(max_plate_nesting=1)
    )
    columns = ["distribution", "sampler", "values", "estimator", "evaluations", "recommended"]
    report.table(
        sites[columns].reset_index(), "What inspect_sites says of the mean-field guide", "sites"
    )

    exactly = {"estimators": {"switch": pre.Enumeration()}, "num_particles": 1}
    programs = {
        f"mean-field, stopped after {min(200, args.steps)} steps": (
            mean_field,
            {**exactly, "num_steps": min(200, args.steps)},
        ),
        "mean-field, as selected at the start": (mean_field, {}),
        **{name: (guide, exactly) for name, guide in GUIDES.items()},
    }
    fits, laws = {}, {}
    for name, (guide, given) in list(programs.items())[:: 2 if args.smoke else 1]:
        start = cpu_seconds()
        fits[name] = fitted(guide, args, **given)
        times.append({"": f"fit: {name}", "CPU seconds": cpu_seconds() - start})
        laws[name] = law_of(guide, DISASTERS)
        if name == "mean-field":
            variances, shares = noise(guide, args.draws, args.seed)
            table = marginals(guide, chain)

    rows = [row(name, law, fits[name]) for name, law in laws.items()]
    rows.append(row("the best mean-field, exactly", best_mean_field(DISASTERS)))
    sentences = [
        {
            "fit": name,
            "estimators": f"{fit.estimators}, num_particles={fit.num_particles}",
            "the check says": fit.check.advice,
        }
        for name, fit in fits.items()
    ]
    report.table(
        pd.DataFrame(rows), "Fits beside the exact posterior: shifts in its sds, ratios of sds"
    )
    report.table(pd.DataFrame(sentences), "What was chosen, and what the check says", "sentences")
    report.table(table, "The mean-field guide's marginals beside the exact posterior", "marginals")
    report.table(variances, "Gradients at the mean-field optimum, summed over parameters", "noise")
    report.table(shares, "Shares of the variance of each parameter's gradient", "shares")
    report.table(pd.DataFrame(times), "CPU seconds, choice of estimators and check included", "seconds")
    report.picture(draw(DISASTERS, posterior, laws))


if __name__ == "__main__":
    main(parse())
