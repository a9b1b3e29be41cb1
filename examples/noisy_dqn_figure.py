"""The picture of the noisy networks: returns along training, and variance and bias of the gradient."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from noisy_dqn_training import Run
from style import BLACK, GREEN, ORANGE, SIGNIFICANT, SKY, VERMILION

STYLES = {
    "epsilon-greedy": (BLACK, "s"),
    "shared draw, factorised": (ORANGE, "^"),
    "shared draw": (VERMILION, "v"),
    "Flipout": (SKY, "D"),
    "local reparameterisation": (GREEN, "o"),
}


def draw(runs: dict[str, Run], measured: pd.DataFrame) -> Figure:
    """Above the returns, a panel per kind of agents; below variance and bias."""
    figure = plt.figure(figsize=(11, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    panels = above.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, (label, run) in zip(panels, runs.items(), strict=True):
        _returns(axes, label, run)
    panels[0].set_ylabel("return")
    above.suptitle("Evaluation at the mean weights: mean and range over agents", fontsize=11)

    left, middle, right = below.subplots(1, 3)
    for axes, part, name in (left, "mu", r"$\mu$"), (middle, "sigma", r"$\sigma$"):
        _variance(axes, measured[measured["parameters"] == part])
        axes.set_title(f"Variance of the gradient in {name}", fontsize=11)
    _bias(right, measured[measured["parameters"] == "all"])
    right.set_title("Bias, relative to the gradient", fontsize=11)
    below.legend(
        handles=left.get_legend_handles_labels()[0], loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def _returns(axes: Axes, label: str, run: Run) -> None:
    color, _ = STYLES[label]
    by_step = run.curve.groupby("step")["return"].agg(["mean", "min", "max"])
    thousands = by_step.index / 1000
    axes.fill_between(thousands, by_step["min"], by_step["max"], color=color, alpha=0.25, linewidth=0)
    axes.plot(thousands, by_step["mean"], color=color, linewidth=2)
    axes.axhline(400, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(xlabel="thousand steps", ylim=(0, 510))
    axes.set_title(label, fontsize=10)
    axes.grid(alpha=0.3)


def _variance(axes: Axes, rows: pd.DataFrame) -> None:
    for label, of_label in rows.groupby("estimator", sort=False):
        color, marker = STYLES[label]
        axes.plot(
            of_label["step"] / 1000, of_label["variance"], color=color, marker=marker, label=label
        )
    axes.set(xlabel="thousand steps of training", yscale="log")
    axes.grid(alpha=0.3)


def _bias(axes: Axes, rows: pd.DataFrame) -> None:
    """Hollow where it can't be told from zero; the factorised noise has a loss of its own."""
    rows = rows[rows["relative_bias"].notna()]
    for label, of_label in rows.groupby("estimator", sort=False):
        color, marker = STYLES[label]
        for row in of_label.itertuples():
            seen = row.bias_z >= SIGNIFICANT
            axes.plot(
                row.step / 1000,
                row.relative_bias,
                marker=marker,
                color=color,
                markerfacecolor=color if seen else "none",
                clip_on=False,
            )
    axes.set_ylim(0, max(0.05, 1.2 * rows["relative_bias"].max()) if len(rows) else 1)
    axes.set_xlabel("thousand steps of training")
    axes.text(
        0.5, 0.95, "hollow: can't be told from zero", transform=axes.transAxes, ha="center", va="top"
    )
    axes.grid(alpha=0.3)
