"""Which estimator of the policy gradient? CartPole, with the policy as a guide.

The score function with and without rewards-to-go, by a moving average, a learned value and the other
episodes as baselines, and relaxed or straight-through actions through the equations of motion: variance
*and* bias of each, and the returns in gymnasium's CartPole-v1 while it trains::

    python examples/policy_gradient.py

and for a run of a few seconds ``python examples/policy_gradient.py --smoke``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch
from cartpole import evaluate
from policy_gradient_figure import figure
from policy_gradient_programs import ActionProgram, Policy, RolloutProgram, StepCounter, Task, Value
from pyro.infer import SVI
from pyro.optim import Adam
from report import Report, progress
from training import add_compile, stretches

import pyro_reparam_ext as pre

EPISODES = 16
"""Per gradient; all at once, as particles."""
FALL, SMOOTH = Task(horizon=200), Task(horizon=50, smooth=True)
HORIZONS = (5, 20, 50)
STUDIED_AFTER = 20
"""Updates by leave-one-out; the gradient is studied before and after."""


def make_elbo(estimator: Any) -> pre.TraceEstimator_ELBO:
    """The ELBO that uses the estimator for all actions; the start of an episode has no parameters."""
    return pre.TraceEstimator_ELBO(
        lambda site: None if site["name"] == "start" else estimator,
        num_particles=EPISODES,
        max_plate_nesting=1,
    )


@dataclass(frozen=True)
class Method:
    """A way to train: the estimator, the task, and the steps of a site (None: each action is one)."""

    estimator: Callable[[], Any]
    task: Task
    steps: int | None

    def program(self, policy: Policy) -> RolloutProgram | ActionProgram:
        if self.steps is None:
            return ActionProgram(policy, self.task)
        return RolloutProgram(policy, self.task, self.steps)

    def shortened(self, horizon: int) -> Method:
        """The same in episodes of at most so many steps."""
        steps = self.steps and min(self.steps, horizon)
        return replace(self, task=replace(self.task, horizon=horizon), steps=steps)


METHODS = {
    "REINFORCE, return of the episode": Method(pre.ScoreFunction, FALL, 200),
    "REINFORCE, rewards to go": Method(pre.ScoreFunction, FALL, 20),
    "moving average": Method(lambda: pre.ScoreFunction(baseline="ema"), FALL, 20),
    "learned value": Method(lambda: pre.ScoreFunction(baseline=Value()), FALL, 20),
    "leave-one-out": Method(pre.LeaveOneOut, FALL, 20),
    "leave-one-out, smooth": Method(pre.LeaveOneOut, SMOOTH, 5),
    "straight-through, smooth": Method(pre.StraightThrough, SMOOTH, None),
}
RELAXED = {
    "leave-one-out": pre.LeaveOneOut,
    "straight-through": pre.StraightThrough,
    "straight-through Gumbel, T = 1": lambda: pre.StraightThroughGumbelSoftmax(1.0),
    "Gumbel-Softmax, T = 0.5": lambda: pre.GumbelSoftmax(0.5, score="discrete"),
    "Gumbel-Softmax, T = 0.1": lambda: pre.GumbelSoftmax(0.1, score="discrete"),
}


@dataclass
class Run:
    """Returns in gymnasium along one training, and the policy at chosen updates."""

    rows: list[dict] = field(default_factory=list)
    policies: dict[int, Policy] = field(default_factory=dict)


def train(
    method: Method,
    seed: int,
    updates: int,
    every: int = 10,
    keep: tuple[int, ...] = (),
    svi: type[SVI] = SVI,
) -> Run:
    """Trains a fresh policy, and evaluates it as it is, with its randomness, in new episodes."""
    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    policy, run = Policy(), Run()
    program, counter = method.program(policy), StepCounter(method.task)
    elbo = make_elbo(method.estimator())
    trainer = svi(program.model, counter(program.guide), Adam({"lr": 0.02}), elbo)
    evaluate_at = {*range(0, updates, every), updates}
    for update, seconds in stretches(trainer, sorted(evaluate_at | set(keep))):
        if update in keep:
            run.policies[update] = deepcopy(policy)
        if update in evaluate_at:
            with torch.random.fork_rng(devices=[]):
                returned = evaluate(policy.act, seed=seed).mean().item()
            run.rows.append(
                {"update": update, "steps": counter.steps, "seconds": seconds, "return": returned}
            )
    return run


def curves(
    methods: dict[str, Method], seeds: int, first_seed: int, updates: int, svi: type[SVI] = SVI
) -> pd.DataFrame:
    """Rows of all runs of all methods."""
    frames = []
    jobs = [(label, first_seed + i) for label in methods for i in range(seeds)]
    for label, seed in progress(jobs, "training"):
        rows = pd.DataFrame(train(methods[label], seed, updates, svi=svi).rows)
        frames.append(rows.assign(method=label, seed=seed))
    return pd.concat(frames, ignore_index=True)


def study_rollouts(
    methods: dict[str, Method], policy: Policy, draws: int, warmup: int, seed: int
) -> pd.DataFrame:
    """The gradient of the return until the pole falls, by the estimators of the score function."""
    pyro.clear_param_store()
    variants = {}
    for label, method in methods.items():
        if not method.task.smooth:
            program = method.program(policy)
            elbo = make_elbo(method.estimator())
            variants[label] = pre.Variant(elbo=elbo, model=program.model, guide=program.guide)
    program = methods["leave-one-out"].program(policy)
    study = pre.gradient_study(
        program.model,
        program.guide,
        estimators=variants,
        num_draws=draws,
        warmup=warmup,
        seed=seed,
        params=lambda name: name.startswith("policy"),
    )
    return study.summary().reset_index()


def study_actions(policy: Policy, task: Task, draws: int, seed: int) -> pd.DataFrame:
    """The gradient by relaxed actions, against the mean of leave-one-out, which has no bias."""
    pyro.clear_param_store()
    program = ActionProgram(policy, task)
    with warnings.catch_warnings():
        # That the reward of a step, which jumps, gives relaxed actions no gradient is what this shows.
        warnings.filterwarnings("ignore", ".*without a gradient", UserWarning)
        study = pre.gradient_study(
            program.model,
            program.guide,
            estimators={label: make_elbo(make()) for label, make in RELAXED.items()},
            num_draws=draws,
            reference="leave-one-out",
            seed=seed,
        )
    return study.summary().reset_index()


def outcome(runs: pd.DataFrame) -> pd.DataFrame:
    """Per method: mean, least and largest return over seeds halfway and at the end."""
    rows, last = [], runs["update"].max()
    for label, of_method in runs.groupby("method", sort=False):
        row = {"method": label}
        for update in (last // 20 * 10, last):
            at = of_method[of_method["update"] == update]
            values = at["return"]
            row[f"return after {update} updates"] = (
                f"{values.mean():.0f} ({values.min():.0f} to {values.max():.0f})"
            )
        row["thousand steps"] = at["steps"].mean() / 1000
        row["seconds"] = at["seconds"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser)
    parser.add_argument("--updates", type=int, default=60, help="gradients per training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per method")
    parser.add_argument("--draws", type=int, default=200, help="gradients per estimator and study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/policy_gradient"))
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    pyro.set_rng_seed(args.seed)
    report, methods, horizons = Report(args.out), METHODS, HORIZONS
    studied_after, warmup = STUDIED_AFTER, 60
    if args.smoke:
        args.updates, args.seeds, args.draws = 2, 1, 2
        studied_after, warmup, horizons = 0, 1, (2, 3)
        methods = {label: method.shortened(10) for label, method in METHODS.items()}
    runs = curves(methods, args.seeds, args.seed, args.updates, args.svi)
    keep = (0, studied_after)
    studied = methods["leave-one-out"]
    kept = train(studied, args.seed, studied_after, keep=keep, svi=args.svi).policies
    rollouts, actions = [], []
    for update, policy in progress(kept.items(), "studies"):
        name = f"after {update} updates" if update else "untrained"
        rows = study_rollouts(methods, policy, args.draws, warmup, args.seed)
        rollouts.append(rows.assign(policy=name))
        tasks = [Task(horizon, smooth=True) for horizon in horizons] + [Task(horizons[1])]
        for task in tasks:
            rows = study_actions(policy, task, args.draws, args.seed)
            reward = "smooth" if task.smooth else "until it falls"
            actions.append(rows.assign(policy=name, reward=reward, horizon=task.horizon))
    rollouts, actions = (pd.concat(x, ignore_index=True) for x in (rollouts, actions))
    measured = ["estimator", "relative_variance", "relative_bias", "bias_z", "seconds_per_gradient"]
    report.table(outcome(runs), f"Returns, {args.seeds} seeds: mean (least to largest)", "returns")
    report.table(rollouts[["policy", *measured]], "Until the pole falls, horizon 200", "rollouts")
    report.table(actions[["policy", "reward", "horizon", *measured]], "Relaxed actions", "actions")
    report.save("runs.csv", lambda path: runs.to_csv(path, index=False))
    report.picture(figure(runs, rollouts, actions))


if __name__ == "__main__":
    main(parse())
