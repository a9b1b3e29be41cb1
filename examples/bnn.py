"""A Bayesian neural network by mean-field variational inference: how should its weights be drawn?

One draw of the weights for the whole batch, several, noise on what each layer puts out (local
reparameterisation), or one draw with random signs for every example (Flipout): variance and bias of
the gradient along training, time a step, and the predictions that training leads to. Regression on
the diabetes set that ships in scikit-learn::

    python examples/bnn.py

or on a set of the UCI repository with a split of the usual protocol::

    python examples/bnn.py --data-dir FOLDER --set concrete --split 0

and classification of scikit-learn's digits::

    python examples/bnn.py --digits

``--priors`` compares priors of the weights of this network, and weights of their divergence, by how
right and how certain its forecasts are. ``--guides`` compares guides of the weights, each trained by
eight draws: mean-field, with scales of low rank, and with correlated rows and columns.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from bnn_figure import draw
from bnn_models import Classification, Problem, RegressionProblem, fan_in_normal, learned_scale
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam
from report import Report, progress
from training import add_compile, stretches
from uci import diabetes, load

import pyro_reparam_ext as pre

ONE = pre.TraceEstimator_ELBO(max_plate_nesting=1)
EIGHT = pre.TraceEstimator_ELBO(num_particles=8, max_plate_nesting=1)
METHODS = {
    "one draw": pre.Variant(elbo=ONE),
    "eight draws": pre.Variant(elbo=EIGHT),
    "Flipout": pre.Variant(elbo=ONE, context=pre.nn.flipout),
    "local reparameterisation": pre.Variant(elbo=ONE, context=pre.nn.local_reparameterization),
}
PRIORS = {
    "N(0, 1 / inputs)": fan_in_normal,
    "N(0, .3²)": dist.Normal(0.0, 0.3),
    "N(0, 1)": dist.Normal(0.0, 1.0),
    "learned scales": learned_scale,
}
GUIDES = {
    "mean-field": AutoNormal,
    "k-tied": pre.nn.AutoKTiedNormal,
    "matrix normal": pre.nn.AutoMatrixNormal,
}
REFERENCE_RUN = "local reparameterisation"
CURVE_POINTS = 20


class Trained:
    """A guide trained by one method, its ELBO along the way, and its state at chosen steps."""

    def __init__(
        self,
        problem: Problem,
        method: pre.Variant,
        args: argparse.Namespace,
        guide: type[AutoNormal] = AutoNormal,
    ) -> None:
        pyro.set_rng_seed(args.seed)
        self.guide = problem.make_guide(guide)
        self.snapshots, self.rows = {}, []
        # The learning rate falls to a tenth.
        optimiser = ClippedAdam({"lr": args.learning_rate, "lrd": 0.1 ** (1 / args.steps)})
        trainer = args.svi(problem.model, self.guide, optimiser, method.elbo)
        every = max(1, args.steps // CURVE_POINTS)
        evaluate_at = range(every, args.steps + 1, every)
        stops = progress(sorted({*evaluate_at, *args.snapshots}), "training")
        batches = (problem.batch(args.batch_size) for _ in count())
        context = problem.context(method.context)
        for step, seconds in stretches(trainer, stops, batches=batches, context=context):
            if step in args.snapshots:
                self.snapshots[step] = {k: v.clone() for k, v in self.guide.state_dict().items()}
            if step in evaluate_at:
                self.rows.append((step, seconds, problem.elbo_per_example(self.guide)))
        self.seconds_per_step = seconds / args.steps

    @property
    def curve(self) -> pd.DataFrame:
        """The ELBO per training example by step and by CPU time."""
        return pd.DataFrame(self.rows, columns=["step", "seconds", "elbo"])


def study_of(problem: Problem, guide: AutoNormal, args: argparse.Namespace) -> pre.GradientStudy:
    """Variance and bias of the gradient by each method, for one batch, where the guide stands."""
    torch.manual_seed(args.seed)
    return pre.gradient_study(
        problem.model,
        guide,
        *problem.batch(args.batch_size),
        estimators={
            label: replace(method, context=problem.context(method.context))
            for label, method in METHODS.items()
        },
        num_draws=args.draws,
        seed=args.seed,
    )


def gradients(problem: Problem, reference: Trained, args: argparse.Namespace) -> pd.DataFrame:
    """The summaries of the studies at all snapshots of one run."""
    frames = []
    for step, state in reference.snapshots.items():
        guide = problem.make_guide()
        guide.load_state_dict(state)
        frame = study_of(problem, guide, args).summary().reset_index(names="method")
        frame.insert(0, "step", step)
        frames.append(frame)
    columns = ["step", "method", "relative_variance", "relative_bias", "bias_z"]
    table = pd.concat(frames, ignore_index=True)
    for bound in ("low", "high"):
        ratio = table["relative_variance"] / table["variance"]
        table[f"relative_variance_{bound}"] = table[f"variance_{bound}"] * ratio
        columns.append(f"relative_variance_{bound}")
    return table[columns]


def overview(frame: pd.DataFrame, runs: dict[str, Trained], scores: dict[str, dict]) -> pd.DataFrame:
    """One row a method: its gradient at the first and last snapshot, its speed, and its predictions."""
    table = pd.DataFrame(index=pd.Index(list(runs), name="method"))
    for step in (frame["step"].min(), frame["step"].max()):
        rows = frame[frame["step"] == step].set_index("method")
        table[f"variance, step {step}"] = rows["relative_variance"]
    table["largest bias z"] = frame.groupby("method")["bias_z"].max()
    table["CPU ms a step"] = [1000 * run.seconds_per_step for run in runs.values()]
    table["ELBO"] = [run.rows[-1][-1] for run in runs.values()]
    return table.join(pd.DataFrame.from_dict(scores, orient="index")).reset_index()


def compare_guides(problem: Problem, args: argparse.Namespace) -> pd.DataFrame:
    """One row a guide: its size, its speed, its ELBO at the end, and its predictions."""
    rows = []
    for label, kind in GUIDES.items():
        run = Trained(problem, METHODS["eight draws"], args, kind)
        row = {
            "guide": label,
            "parameters": sum(parameter.numel() for parameter in run.guide.parameters()),
            "CPU ms a step": 1000 * run.seconds_per_step,
            "ELBO": run.rows[-1][-1],
        }
        rows.append(row | problem.scores(problem.predict(run.guide)))
    return pd.DataFrame(rows)


def compare_priors(args: argparse.Namespace) -> pd.DataFrame:
    """One row a prior and weight of the divergence: the ELBO, and the class probabilities."""
    rows = []
    for label, prior in PRIORS.items():
        for weight in (1.0, 0.1):
            torch.manual_seed(args.seed)
            problem = Classification(args.split, args.hidden, prior={"*": prior}, kl_weight=weight)
            run = Trained(problem, METHODS[REFERENCE_RUN], args)
            row = {"prior": label, "KL weight": weight, "ELBO": run.rows[-1][-1]}
            rows.append(row | problem.forecast(run.guide))
    torch.manual_seed(args.seed)
    certain = Classification(args.split, args.hidden)
    scores = certain.plain(args.steps, args.learning_rate, args.batch_size)
    return pd.DataFrame([*rows, {"prior": "none: certain weights"} | scores])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--digits", action="store_true", help="classify scikit-learn's digits")
    add_compile(parser)
    parser.add_argument("--guides", action="store_true", help="compare guides of the weights")
    parser.add_argument(
        "--priors", action="store_true", help="compare priors of the weights, on digits"
    )
    parser.add_argument("--data-dir", type=Path, help="folder of UCI sets (default: diabetes)")
    parser.add_argument("--set", default="concrete", help="the set, a folder in --data-dir")
    parser.add_argument("--split", type=int, default=0, help="which split of the data")
    parser.add_argument("--hidden", type=int, default=50, help="hidden units")
    parser.add_argument("--steps", type=int, help="optimisation steps (default: 1000; digits 3000)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--draws", type=int, help="gradients per method and study (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/bnn"), help="results folder")
    args = parser.parse_args(argv)
    args.steps = args.steps or (4 if args.smoke else 3000 if args.digits or args.priors else 1000)
    args.draws = args.draws or (8 if args.smoke else 300)
    args.snapshots = sorted({max(1, args.steps // 20), max(1, args.steps // 4), args.steps})
    return args


def main(args: argparse.Namespace) -> None:
    pyro.set_rng_seed(args.seed)
    if args.priors:
        Report(args.out).table(
            compare_priors(args),
            f"Priors of the weights of a Bayesian network on digits, trained by {REFERENCE_RUN} for "
            f"{args.steps} steps of {args.batch_size} examples (ELBO in nats per training example, "
            f"without the weight of its divergence; log likelihood in nats per test image; expected "
            f"calibration error in 15 bins; mutual information of class and weights in nats)",
            "digits_priors",
        )
        return
    if args.digits:
        problem: Problem = Classification(args.split, args.hidden)
    else:
        data = load(args.data_dir, args.set, args.split) if args.data_dir else diabetes(args.split)
        problem = RegressionProblem(data, args.hidden)
    report = Report(args.out)
    if args.guides:
        report.table(
            compare_guides(problem, args),
            f"Guides of the weights of a Bayesian network on {problem.name}, trained by eight draws "
            f"for {args.steps} steps of {min(args.batch_size, problem.num_examples)} examples (ELBO in "
            f"nats per training example; {problem.units})",
            f"{problem.name}_guides",
        )
        return
    runs, scores, predictions = {}, {}, {}
    for label, method in METHODS.items():
        runs[label] = Trained(problem, method, args)
        predictions[label] = problem.predict(runs[label].guide)
        scores[label] = problem.scores(predictions[label])
    # Some of the draws will do to look at.
    kept = predictions[REFERENCE_RUN].isel(draw=slice(100))
    report.save(f"{problem.name}.nc", lambda path: kept.to_netcdf(str(path), engine="h5netcdf"))
    frame = gradients(problem, runs[REFERENCE_RUN], args)
    report.table(
        frame,
        f"Gradients of a Bayesian network on {problem.name}, at the guide of the run by "
        f"{REFERENCE_RUN}: {args.draws} gradients per method, variance over the squared norm of the "
        f"mean, norm of the bias (beyond what sampling error makes of it) over that norm",
        f"{problem.name}_gradients",
    )
    report.table(
        overview(frame, runs, scores),
        f"A Bayesian network on {problem.name}, trained by each for {args.steps} steps of "
        f"{min(args.batch_size, problem.num_examples)} examples (variance over the squared norm of the "
        f"mean, largest z-score of the bias; ELBO in nats per training example; {problem.units})",
        problem.name,
    )
    report.picture(
        draw(frame, {label: run.curve for label, run in runs.items()}, problem, predictions),
        problem.name,
    )


if __name__ == "__main__":
    main(parse())
