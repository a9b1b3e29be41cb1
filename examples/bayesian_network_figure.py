"""The picture of the Bayesian network: noise and bias of every gradient, and training curves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from style import BLUE, VERMILION, styles

LEAST = 1e-4
"""Where the axis of the gradients begins."""
NOISE, BIAS = BLUE, VERMILION


def draw(gradients: pd.DataFrame, curves: dict[tuple[str, str], pd.DataFrame], title: str) -> Figure:
    """A row per guide: the gradients at its two states, and the divergence while training by each."""
    guides, states = gradients["guide"].unique(), gradients["state"].unique()
    unbiased = gradients.groupby("estimator", sort=False)["unbiased"].first()
    trained = [label for label in unbiased.index if any(label == key[1] for key in curves)]
    figure, axes = plt.subplots(
        len(guides),
        3,
        figsize=(13.5, (1.5 + 0.2 * len(unbiased)) * len(guides)),
        width_ratios=(1, 1, 1.35),
        layout="constrained",
        squeeze=False,
    )
    for row, guide in zip(axes, guides, strict=True):
        for ax, state in zip(row, states, strict=False):
            chosen = (gradients["guide"] == guide) & (gradients["state"] == state)
            _gradients(ax, gradients[chosen], labelled=ax is row[0])
            ax.set_title(f"gradient: {guide}, {state}")
        for label, style in styles(unbiased[trained]).items():
            curve = curves[guide, label]
            row[2].plot(
                curve["step"], curve["divergence"], label=label, markevery=0.1, markersize=4, **style
            )
        row[2].set(yscale="log", xlabel="step", ylabel="log evidence - ELBO (nats)")
        row[2].set_title(f"training: {guide}")
        row[2].grid(alpha=0.3)
    figure.legend(
        handles=[*_key(), *axes[0, 2].get_legend_handles_labels()[0]],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    figure.suptitle(title)
    return figure


def _gradients(axes: Axes, rows: pd.DataFrame, labelled: bool) -> None:
    """Noise and bias of a gradient, in the same unit; what is below the axis lies on its edge."""
    places = -np.arange(len(rows))
    for column, marker, colour in (("deviation", "o", NOISE), ("bias", "D", BIAS)):
        seen = rows[column] >= LEAST
        axes.plot(rows[column][seen], places[seen], marker, color=colour, markersize=7)
        for place in places[rows[column] < LEAST]:
            axes.plot(LEAST, place, "<", color=colour, markersize=7, clip_on=False)
    axes.axvline(max(rows["gradient"].iloc[0], LEAST), color="0.4", linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(LEAST, 30)
    axes.set_ylim(places[-1] - 0.5, 0.5)
    axes.set_xlabel("nats per logit")
    axes.set_yticks(places, rows["estimator"] if labelled else [])
    axes.grid(alpha=0.3)


def _key() -> list[Line2D]:
    def mark(marker: str, colour: str, label: str, line: str = "") -> Line2D:
        return Line2D([], [], marker=marker, color=colour, linestyle=line, label=label)

    return [
        mark("o", NOISE, "standard deviation of a gradient"),
        mark("D", BIAS, "bias, where it can be told from 0"),
        mark("<", "0.4", "below the axis"),
        mark("", "0.4", "norm of the exact gradient", ":"),
    ]
