"""The posterior of a Bayesian network by SVI, with every estimator for binary sites, and exactly.

The network is "asia", the chest clinic of Lauritzen and Spiegelhalter (1988). Give evidence by name;
the other nodes are inferred::

    python examples/bayesian_network.py
    python examples/bayesian_network.py --evidence dyspnoea=yes smoking=yes xray=no

Two guides are trained: one with a table of logits per node over all nodes before it, which holds the
exact posterior, and one with independent nodes, which doesn't.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyro
import torch
from bayesian_network_figure import draw
from chest_clinic import GUIDES, NODES, Evidence, Program, exact, latents, model
from pyro.infer import SVI
from pyro.optim import ClippedAdam
from report import Report, progress
from style import told_from_zero
from torch import Tensor
from training import add_compile, stretches

import pyro_reparam_ext as pre

EVIDENCE = ("asia=yes", "xray=yes", "dyspnoea=yes")

ESTIMATORS: dict[str, tuple[pre.estimators.base.Estimator, int]] = {
    "ScoreFunction": (pre.ScoreFunction(), 1),
    "ScoreFunction, ema": (pre.ScoreFunction(baseline="ema"), 1),
    "LeaveOneOut, 2 particles": (pre.LeaveOneOut(), 2),
    "ARM": (pre.ARM(), 1),
    "DisARM": (pre.DisARM(), 1),
    "ARMS, 4 samples": (pre.ARMS(), 1),
    "MuProp": (pre.MuProp(), 1),
    "DoubleCV, 2 samples": (pre.DoubleCV(), 1),
    "RODEO, 2 samples": (pre.RODEO(), 1),
    "REBAR": (pre.REBAR(), 1),
    "RELAX": (pre.RELAX(), 1),
    "LocalExpectation": (pre.LocalExpectation(), 1),
    "MeasureValued": (pre.MeasureValued(), 1),
    "Enumeration": (pre.Enumeration(), 1),
    "GumbelSoftmax, T=0.5": (pre.GumbelSoftmax(0.5, score="discrete"), 1),
    "StraightThrough": (pre.StraightThrough(), 1),
    "ST-GumbelSoftmax, T=0.5": (pre.StraightThroughGumbelSoftmax(0.5), 1),
    "GumbelRao, T=0.5": (pre.GumbelRao(0.5, num_samples=10), 1),
    "GappedStraightThrough, T=0.5": (pre.GappedStraightThrough(0.5), 1),
    "DecoupledStraightThrough": (pre.DecoupledStraightThrough(0.5, 1.0), 1),
    "ReinMax": (pre.ReinMax(), 1),
}
"""All that serve Bernoulli sites, with the particles of their ELBO."""
TRAINED = (
    "ScoreFunction",
    "ScoreFunction, ema",
    "LeaveOneOut, 2 particles",
    "DisARM",
    "RODEO, 2 samples",
    "REBAR",
    "LocalExpectation",
    "Enumeration",
    "GumbelSoftmax, T=0.5",
    "StraightThrough",
    "ST-GumbelSoftmax, T=0.5",
    "ReinMax",
)
"""Those that the guides are trained by: as many curves as can be told apart."""


def make_elbo(label: str) -> pre.TraceEstimator_ELBO:
    estimator, particles = ESTIMATORS[label]
    return pre.TraceEstimator_ELBO(estimator, num_particles=particles, max_plate_nesting=1)


def divergence(guide: Program, evidence: Evidence, runs: int = 1) -> float:
    """KL(guide || posterior), exactly: what the ELBO lacks of the log evidence; mean over the runs."""
    elbo = make_elbo("Enumeration").loss(model, guide, evidence, runs)
    return exact(model, evidence)[0] + elbo / runs


def train(
    label: str,
    guide: Program,
    evidence: Evidence,
    steps: int,
    runs: int = 1,
    svi: type[SVI] = SVI,
) -> pd.DataFrame:
    """SVI from uniform nodes; returns the divergence by step and by CPU seconds of training."""
    pyro.clear_param_store()
    decay = {"lr": 0.1, "lrd": 0.05 ** (1 / steps), "clip_norm": math.inf}
    trainer = svi(model, guide, ClippedAdam(decay), make_elbo(label))
    stops = sorted({*range(0, steps, max(1, steps // 40)), steps})
    rows = [
        (step, seconds, divergence(guide, evidence, runs))
        for step, seconds in stretches(trainer, stops, evidence, runs)
    ]
    return pd.DataFrame(rows, columns=["step", "seconds", "divergence"])


def gradients(
    guide: Program,
    evidence: Evidence,
    draws: int,
    seed: int,
    labels: Collection[str] = tuple(ESTIMATORS),
) -> pd.DataFrame:
    """Standard deviation and bias of the estimators' gradients at the parameters as they are."""
    study = pre.gradient_study(
        model,
        guide,
        evidence,
        estimators={label: make_elbo(label) for label in labels},
        num_draws=draws,
        reference="exact",
        seed=seed,
        warmup=min(draws, 200),
    )
    summary, norm = study.summary(), study.reference_gradient().norm
    frame = summary[["unbiased", "evaluations"]].copy()
    frame["gradient"] = norm
    frame["deviation"] = summary["variance"] ** 0.5
    frame["bias"] = summary["bias"].where(told_from_zero(summary, "bias"))
    frame["z"] = summary["bias_z"]
    return frame.reset_index()


def observation(text: str) -> tuple[str, Tensor]:
    name, _, answer = text.partition("=")
    if name not in NODES or answer not in ("yes", "no"):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NODE=yes or NODE=no, of {', '.join(NODES)}"
        )
    return name, torch.tensor(float(answer == "yes"), dtype=torch.float64)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--evidence", nargs="+", type=observation, metavar="NODE=yes|no", help=", ".join(NODES)
    )
    add_compile(parser)
    parser.add_argument("--steps", type=int, default=1000, help="optimisation steps")
    parser.add_argument("--runs", type=int, default=16, help="independent runs of each estimator")
    parser.add_argument("--draws", type=int, default=2000, help="gradients per estimator and study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument(
        "--out", type=Path, default=Path("results/bayesian_network"), help="results folder"
    )
    args = parser.parse_args(argv)
    args.evidence = dict(args.evidence or map(observation, EVIDENCE))
    if not latents(args.evidence):
        parser.error("--evidence: every node is observed; leave at least one to infer")
    if args.smoke:
        args.steps, args.runs, args.draws = 2, 2, 2
    return args


def main(args: argparse.Namespace) -> None:
    pyro.set_rng_seed(args.seed)
    report, evidence = Report(args.out), args.evidence
    log_evidence, posterior = exact(model, evidence)
    rows = [{"guide": "", "estimator": "exact", **{k: p.item() for k, p in posterior.items()}}]
    studies, curves, guides = [], {}, GUIDES
    if args.smoke:
        guides = {"mean-field": GUIDES["mean-field"]}

    def study(guide: str, state: str) -> None:
        frame = gradients(GUIDES[guide], evidence, args.draws, args.seed)
        frame.insert(0, "state", state)
        frame.insert(0, "guide", guide)
        studies.append(frame)

    for name, guide in guides.items():
        pyro.clear_param_store()
        study(name, "initial")
        for label in progress(TRAINED, name):
            curve = curves[name, label] = train(label, guide, evidence, args.steps, args.runs, args.svi)
            marginals = exact(guide, evidence, args.runs)[1]
            distances = torch.stack([(marginals[k] - p).abs() for k, p in posterior.items()])
            rows.append(
                {
                    "guide": name,
                    "estimator": label,
                    **{k: p.mean().item() for k, p in marginals.items()},
                    "total variation": distances.max(0).values.mean().item(),
                    "KL": curve["divergence"].iloc[-1],
                    "seconds": curve["seconds"].iloc[-1],
                }
            )
        train("Enumeration", guide, evidence, args.steps, svi=args.svi)
        study(name, "trained")

    given = ", ".join(f"{name} {'yes' if value else 'no'}" for name, value in evidence.items())
    report.table(
        pd.DataFrame(rows),
        f"Probability of yes given {given} (log evidence {log_evidence:.4f}) after {args.steps} steps: "
        f"mean of {args.runs} runs, the largest total variation of a node, KL(guide || posterior) in "
        f"nats, and CPU seconds for all runs",
    )
    measured = pd.concat(studies, ignore_index=True)
    report.table(
        measured,
        f"Gradients given {given}, in nats per logit, {args.draws} draws: norm of the exact gradient, "
        f"root of the summed variance, norm of the bias where it can be told from zero",
        "gradients",
    )
    report.picture(draw(measured, curves, f"Posterior of the chest clinic given {given}"))


if __name__ == "__main__":
    main(parse())
