"""Which features matter? Spike-and-slab regression by SVI, beside the sum over all subsets.

Ten features of 442 patients, 1,024 subsets: the posterior is exact, so that what a fit claims can be
held against it. Guides with independent features and with dependent ones, coefficients integrated out
or kept; each fitted, and checked, in one call::

    python examples/spike_and_slab.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from report import Report
from spike_and_slab_figure import draw
from spike_and_slab_models import (
    Dependent,
    Independent,
    Integrated,
    Kept,
    KeptJointly,
    Posterior,
    diabetes,
    exact,
    log_probs,
    set_to_best,
    subsets,
)
from torch import Tensor
from training import add_compile

import pyro_reparam_ext as pre

GUIDES: dict[str, tuple[type[Integrated], type[Independent]]] = {
    "integrated out, independent": (Integrated, Independent),
    "integrated out, dependent": (Integrated, Dependent),
    "kept, independent": (Kept, Independent),
    "kept, dependent": (KeptJointly, Dependent),
}
CANDIDATES = (
    pre.Enumeration(),
    pre.LocalExpectation(),
    pre.DisARM(),
    pre.LeaveOneOut(),
    pre.ScoreFunction(),
    pre.Pathwise(),
)
"""Those that need no relaxed values, which have no place in a table of subsets."""


@dataclass(frozen=True)
class Fitted:
    """A guide after its fit: what is claimed of it, and what is true."""

    program: Integrated
    fit: pre.Fit
    seconds: float
    log_probs: Tensor

    @property
    def inclusion(self) -> Tensor:
        return self.log_probs.exp() @ subsets(len(self.program.data.names))

    def verdict(self, posterior: Posterior) -> dict[str, object]:
        """What the fit says of itself, and in the last columns how far it is off."""
        check = self.fit.check
        assert check is not None
        off = (self.inclusion - posterior.inclusion).abs().max()
        return {
            "steps": len(self.fit.losses),
            "CPU s": self.seconds,
            "converged": self.fit.run.converged,
            "guide ok": check.ok,
            "k-hat": check.khat,
            "gap": check.gap,
            "says": check.advice,
            "KL": posterior.log_evidence - self.fit.elbo,
            "furthest inclusion": off.item(),
        }


def fitted(program: Integrated, selection: pre.Selection, args: argparse.Namespace) -> Fitted:
    """Fits one guide with the estimators that were selected for it."""
    start = time.process_time()
    fit = pre.fit(
        program.model,
        program.guide,
        estimators=selection,
        num_particles=selection.num_particles,
        optim=Adam({"lr": args.learning_rate}),
        num_steps=args.steps,
        until=pre.Converged(mcse=0.3, ess=10),
        max_plate_nesting=0,
        compiled=args.svi is pre.CompiledSVI,
    )
    return Fitted(program, fit, time.process_time() - start, log_probs(program))


def by_trace_elbo(program: Integrated, args: argparse.Namespace) -> Tensor:
    """Log probabilities of subsets after ``Trace_ELBO`` of Pyro has had the same seconds as the fit."""
    pyro.clear_param_store()
    svi = SVI(program.model, program.guide, Adam({"lr": args.learning_rate}), Trace_ELBO())
    start = time.process_time()
    while time.process_time() - start < args.seconds:
        svi.step()
    return log_probs(program)


def gradients(program: Integrated, selection: pre.Selection, args: argparse.Namespace) -> pd.DataFrame:
    """Noise of one gradient at the start, by what was selected and by Pyro's own ELBO."""
    wide = Trace_ELBO(num_particles=16, vectorize_particles=True, max_plate_nesting=0)
    study = pre.gradient_study(
        program.model,
        program.guide,
        estimators={
            "selected": selection.elbo(max_plate_nesting=0),
            "Trace_ELBO": Trace_ELBO(max_plate_nesting=0),
            "Trace_ELBO, 16 particles": wide,
        },
        num_draws=args.draws,
        seed=args.seed,
    )
    columns = ["unbiased", "evaluations", "relative_variance", "bias_z", "seconds_per_gradient"]
    return study.summary()[columns].reset_index()


def coefficients(program: Kept, posterior: Posterior) -> pd.DataFrame:
    """Mean and standard deviation of each coefficient, by the guide and exactly."""
    table = pre.marginals(program.model, program.guide, num_samples=4000).loc["beta"]
    return pd.DataFrame(
        {
            "feature": program.data.names,
            "mean": table["mean"].to_numpy(),
            "±": table["mean_error"].to_numpy(),
            "exact mean": posterior.mean,
            "sd": table["sd"].to_numpy(),
            "± of sd": table["sd_error"].to_numpy(),
            "exact sd": posterior.sd,
        }
    )


def best_of_families(args: argparse.Namespace) -> None:
    """What the check says of the best guide of each family, which no training can pass."""
    report, data = Report(args.out), diabetes()
    posterior = exact(data)
    inclusion, rows = {"exact": posterior.inclusion}, []
    for label, (kind, features) in GUIDES.items():
        if kind is not Integrated:
            continue
        program = kind(data, features(data))
        set_to_best(program, posterior)
        law = log_probs(program)
        inclusion[label] = law.exp() @ subsets(len(data.names))
        check = pre.check_guide(program.model, program.guide, num_samples=1000, max_plate_nesting=0)
        divergence = (law.exp() @ (law - posterior.log_probs)).item()
        found = {"k-hat": check.khat, "gap": check.gap, "says": check.advice, "KL": divergence}
        rows.append({"guide": label, "guide ok": check.ok} | found)
    report.table(
        pd.DataFrame(rows),
        "The best guide of each family: what check_guide says of it, and its divergence from the "
        "posterior in nats, by a sum over all subsets",
        "best",
    )
    table = pd.DataFrame.from_dict(
        {label: x.tolist() for label, x in inclusion.items()}, orient="index", columns=data.names
    )
    report.table(
        table.reset_index(names="guide"),
        "Probability that each feature is in, by the best guide of each family",
        "best_inclusion",
    )
    report.picture(draw(table, pd.DataFrame(rows)), "best")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser)
    parser.add_argument("--best", action="store_true", help="check the best guides, without fits")
    parser.add_argument("--steps", type=int, default=2400, help="of each fit, at most")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--draws", type=int, default=300, help="gradients of each study")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of each selection")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument(
        "--out", type=Path, default=Path("results/spike_and_slab"), help="results folder"
    )
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.draws, args.budget = 3, 10, 0.1
    return args


def main(args: argparse.Namespace) -> None:
    if args.best:
        best_of_families(args)
        return
    report, data = Report(args.out), diabetes()
    start = time.process_time()
    posterior = exact(data)
    print(f"exact, by a sum over 1,024 subsets: {1000 * (time.process_time() - start):.0f} ms")
    inclusion = {"exact": posterior.inclusion}
    verdicts = []
    for label, (kind, features) in GUIDES.items():
        pyro.set_rng_seed(args.seed)
        pyro.clear_param_store()
        program = kind(data, features(data))
        if not verdicts:
            print(pre.inspect_sites(program.model, program.guide).T.to_string())
        selection = pre.select_estimators(
            program.model,
            program.guide,
            candidates=CANDIDATES,
            budget=args.budget,
            max_plate_nesting=0,
            seed=args.seed,
        )
        if not verdicts:
            report.table(
                selection.report.reset_index(),
                f"What select_estimators measured, {label}: the variance of the gradient at uniform "
                f"features, and times that of the seconds it takes",
                "selection",
            )
            report.table(
                gradients(program, selection, args),
                f"One gradient at uniform features, {label}: variance over the squared mean",
                "gradients",
            )
        found = fitted(program, selection, args)
        inclusion[label] = found.inclusion
        verdicts.append({"guide": label} | found.verdict(posterior))
        print(found.fit)
        if label == "kept, dependent":
            report.table(
                coefficients(program, posterior),
                "Coefficients by the fitted guide and exactly; one that is out follows its prior",
                "coefficients",
            )
        if label == "integrated out, independent":
            args.seconds = found.seconds
            inclusion["the same, by Trace_ELBO"] = by_trace_elbo(program, args).exp() @ subsets(10)
            pyro.clear_param_store()
    report.table(
        pd.DataFrame(verdicts),
        "What each fit says of itself, and how far it is off: KL in nats (log evidence less ELBO), and "
        "the furthest of ten inclusion probabilities",
        "verdicts",
    )
    table = pd.DataFrame.from_dict(
        {label: x.tolist() for label, x in inclusion.items()}, orient="index", columns=data.names
    )
    report.table(
        table.reset_index(names="guide"), "Probability that each feature is in, exact of each guide"
    )
    report.picture(draw(table, pd.DataFrame(verdicts)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parse())
