"""The picture of the policy gradients: training, and variance beside bias."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
from cartpole import MAX_STEPS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from style import BLUE, GREEN, ORANGE, PINK, SKY, VERMILION, told_from_zero

COLOURS = ("0.6", "k", ORANGE, SKY, GREEN, BLUE, VERMILION)
RELAXED_COLOURS = (GREEN, VERMILION, PINK, SKY, ORANGE)


def _curves(axes: Axes, runs: pd.DataFrame) -> None:
    for colour, (label, of_method) in zip(COLOURS, runs.groupby("method", sort=False), strict=True):
        at = of_method.groupby("update")
        x, values = at["steps"].mean() / 1000, at["return"]
        style = "--" if "smooth" in label else "-"
        axes.plot(x, values.mean(), style, color=colour, label=label)
        axes.fill_between(x, values.min(), values.max(), color=colour, alpha=0.12, linewidth=0)
    axes.set(
        xlabel="thousand steps in the simulator",
        ylabel="return in gymnasium's CartPole-v1",
        ylim=(0, MAX_STEPS + 5),
        title="Training: mean and range over seeds",
    )
    axes.legend(fontsize=7.5, loc="lower right")


def _rollouts(axes: Axes, table: pd.DataFrame) -> None:
    labels = list(table["estimator"].unique())
    for marker, (policy, rows) in zip("os", table.groupby("policy", sort=False), strict=False):
        places = [-labels.index(label) for label in rows["estimator"]]
        face = "white" if marker == "o" else "k"
        axes.plot(
            rows["relative_variance"], places, marker, color="k", markerfacecolor=face, label=policy
        )
    axes.set_yticks([-i for i in range(len(labels))], labels)
    axes.set(
        xscale="log",
        ylim=(-len(labels) + 0.4, 0.6),
        xlabel="variance / squared norm of the gradient",
    )
    axes.set_title("Variance until the pole falls\n(unbiased by mathematics)", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)


def _relaxed(axes: Axes, table: pd.DataFrame, column: str, policy: str) -> None:
    rows = table[(table["policy"] == policy) & (table["reward"] == "smooth")]
    for colour, (label, of_label) in zip(
        RELAXED_COLOURS, rows.groupby("estimator", sort=False), strict=True
    ):
        values = of_label[column].clip(lower=1e-3)
        axes.plot(of_label["horizon"], values, color=colour, label=label, alpha=0.5, linewidth=1)
        seen = told_from_zero(of_label) | (column == "relative_variance")
        for face, of_kind in ((colour, seen), ("white", ~seen)):
            axes.plot(
                of_label["horizon"][of_kind], values[of_kind], "o", color=colour, markerfacecolor=face
            )
    ticks = sorted(rows["horizon"].unique())
    axes.set(xscale="log", yscale="log", xlabel="horizon, steps")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def figure(runs: pd.DataFrame, rollouts: pd.DataFrame, actions: pd.DataFrame) -> Figure:
    made, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    _curves(axes[0, 0], runs)
    _rollouts(axes[1, 0], rollouts)
    for column, policy in zip((1, 2), actions["policy"].unique(), strict=False):
        _relaxed(axes[0, column], actions, "relative_variance", policy)
        _relaxed(axes[1, column], actions, "relative_bias", policy)
        axes[0, column].set_title(f"Variance, smooth reward, {policy}", fontsize=11)
        axes[1, column].set_title("Bias (hollow: can't be told from 0)", fontsize=11)
    axes[0, 1].set_ylabel("variance / squared norm of the gradient")
    axes[1, 1].set_ylabel("norm of the bias / norm of the gradient")
    axes[0, 1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.1, 1.0))
    return made
