"""Noisy networks on CartPole: does it pay to give every transition of a batch noise of its own?

A noisy network explores by noise on its weights, of a size that it learns. Its loss is an ELBO and the
noise a guide, so local reparameterisation and Flipout serve it. Measures the variance of the gradient
by each, and trains DQN by all of them, with epsilon-greedy exploration beside it::

    python examples/noisy_dqn.py

Only some of the agents::

    python examples/noisy_dqn.py --agents "local reparameterisation" "epsilon-greedy"
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pyro
from noisy_dqn_agents import Agents, Noisy, State, Variational, td_likelihood
from noisy_dqn_figure import draw
from noisy_dqn_memory import Batch
from noisy_dqn_training import EPISODES, STEPS, Run, train
from report import Report
from torch import Tensor
from training import add_compile

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import flipout, local_reparameterization

AGENTS: dict[str, Callable[..., Agents]] = {
    "epsilon-greedy": Agents,
    "shared draw, factorised": Noisy,
    "shared draw": Variational,
    "Flipout": partial(Variational, context=flipout),
    "local reparameterisation": partial(Variational, context=local_reparameterization),
}
"""What makes so many agents of a kind, which learn by ``SVI`` or ``CompiledSVI``."""
STUDIED = "local reparameterisation"
SOLVED = 475
"""The mean return from which CartPole-v1 counts as solved."""
PARTS = {"mu": "mu", "sigma": "sigma", "all": ""}


def variants(noisy: Noisy) -> dict[str, dict[str, pre.Variant]]:
    """The ways to draw the noise of a loss, by its law: another law has another expected loss."""

    def factorised(parameters: State, batch: Batch, targets: Tensor) -> None:
        td_likelihood(noisy.noisy_values(parameters, batch.states), batch, targets)

    return {
        "independent": {
            "shared draw": pre.Variant(),
            "Flipout": pre.Variant(context=flipout),
            "local reparameterisation": pre.Variant(context=local_reparameterization),
        },
        "factorised": {
            "shared draw, factorised": pre.Variant(model=registered(factorised), guide=registered()),
        },
    }


def registered(program: Callable[..., None] | None = None) -> Callable[..., None]:
    """The program with its parameters in Pyro's store, where a study finds them."""

    def run(parameters: State, batch: Batch, targets: Tensor) -> None:
        parameters = {name: pyro.param(name, value) for name, value in parameters.items()}
        if program is not None:
            program(parameters, batch, targets)

    return run


def gradients(run: Run, draws: int, seed: int) -> pd.DataFrame:
    """Variance and bias of the gradient at each snapshot."""
    noisy, variational = Noisy(1), Variational(1)
    model, guide = registered(variational.model), registered(variational.guide)
    frames = []
    for step, snapshot in run.snapshots.items():
        for candidates in variants(noisy).values():
            pyro.clear_param_store()
            study = pre.gradient_study(
                model, guide, *snapshot, estimators=candidates, num_draws=draws, seed=seed
            )
            for part, ending in PARTS.items():
                frame = study.summary(params=lambda name, ending=ending: name.endswith(ending))
                frame.insert(0, "parameters", part)
                frame.insert(0, "step", step)
                frames.append(frame.reset_index())
    pyro.clear_param_store()
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values("step", kind="stable", ignore_index=True)


def gradient_table(measured: pd.DataFrame) -> pd.DataFrame:
    """One row per step and estimator."""
    keys = ["step", "estimator"]
    wide = measured.pivot(index=keys, columns="parameters", values="variance")
    table = wide.rename(columns=lambda part: f"variance, {part}")[
        [f"variance, {part}" for part in PARTS]
    ]
    shared = table["variance, all"].xs("shared draw", level="estimator")
    table["times below shared draw"] = 1 / table["variance, all"].div(shared, level="step")
    everything = measured[measured["parameters"] == "all"].set_index(keys)
    for column in ("relative_bias", "bias_z"):
        table[column] = everything[column]
    order = [name for name in AGENTS if name in set(measured["estimator"])]
    table = table.reindex(order, level="estimator").reset_index().astype(object)
    return table.where(table.notna(), None)


def training_table(runs: dict[str, Run]) -> pd.DataFrame:
    """One row per kind of agents."""
    rows = []
    for label, run in runs.items():
        curve = run.curve.pivot(index="step", columns="agent", values="return")
        final = curve.iloc[-1]
        solved = (curve >= SOLVED).apply(lambda column: column.idxmax() if column.any() else None)
        rows.append(
            {
                "agent": label,
                "final return, mean": final.mean(),
                "lowest": final.min(),
                "agents at 400 or more": f"{(final >= 400).sum()} of {len(final)}",
                f"first at {SOLVED} after steps, median": solved.median(),
                "CPU seconds per 1,000 steps": 1000 * run.seconds / curve.index[-1] / len(final),
            }
        )
    return pd.DataFrame(rows)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser, "learn by CompiledSVI; acting stays as it is, step by step")
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--count", type=int, help="agents of each kind (default: 5)")
    parser.add_argument("--steps", type=int, help=f"steps of each (default: {STEPS})")
    parser.add_argument("--draws", type=int, help="gradients per estimator and study (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/noisy_dqn"), help="results folder")
    args = parser.parse_args(argv)
    defaults = (2, 60, 8) if args.smoke else (5, STEPS, 500)
    for name, value in zip(("count", "steps", "draws"), defaults, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main(args: argparse.Namespace) -> None:
    report, runs = Report(args.out), {}
    steps = args.steps
    for label in args.agents:
        pyro.set_rng_seed(args.seed)
        snapshots = (steps // 10, steps // 4, steps) if label == STUDIED else ()
        runs[label] = train(
            AGENTS[label](args.count, args.svi),
            args.count,
            steps,
            seed=args.seed,
            snapshots_at=snapshots,
            description=label,
        )
    report.table(
        training_table(runs),
        f"DQN on CartPole-v1, {args.count} agents of each kind, after {steps:,} steps: mean "
        f"return of {EPISODES} episodes at the mean weights, at the end",
    )
    curves = pd.concat({label: run.curve for label, run in runs.items()}, names=["kind"])
    report.save("curves.csv", curves.droplevel(1).to_csv)
    if STUDIED not in runs:
        return
    measured = gradients(runs[STUDIED], args.draws, args.seed)
    report.table(
        gradient_table(measured),
        f"The gradient of the loss at the parameters of an agent that learns by {STUDIED}, frozen "
        f"after so many steps: one batch, {args.draws} gradients per estimator",
        "gradients",
    )
    report.picture(draw(runs, measured), "picture")


if __name__ == "__main__":
    main(parse())
