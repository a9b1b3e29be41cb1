"""The picture of what estimators trade: variance, bias and time."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from .bias import SIGNIFICANT
from .plot import BIASED, UNBIASED

AREAS = (30.0, 400.0)
"""The areas of the dots of the fastest and of the slowest gradient, in square points."""
ZERO = 1e-12
"""A relative variance or squared bias that is no more than rounding."""


def plot_tradeoff(summary: pd.DataFrame, axes: Any = None) -> Any:
    """Draws the summary of a study as dots: variance, bias, and seconds of a gradient as the area.

    Both axes are logarithmic. What is zero, as the variance of an exact gradient or a bias of which
    nothing was measured, lies in a grey strip at the edge.
    """
    if axes is None:
        _, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    x, left = _placed(summary["relative_variance"])
    y, bottom = _placed(summary["relative_bias"] ** 2)
    seconds = summary["seconds_per_gradient"].to_numpy()
    areas = np.maximum(AREAS[1] * seconds / seconds.max(), AREAS[0])
    side_by_side = [n for n in np.argsort(x) if y[n] <= bottom]
    below = set(side_by_side[1::2])  # every other label
    for number, (label, row) in enumerate(summary.iterrows()):
        color = UNBIASED if row["unbiased"] else BIASED
        face = color if row["bias_z"] > SIGNIFICANT else "none"
        axes.scatter(x[number], y[number], s=areas[number], edgecolors=color, facecolors=face, zorder=3)
        away = 5 + np.sqrt(areas[number]) / 2
        axes.annotate(
            f"{label}, {1e3 * seconds[number]:.2g} ms",
            (x[number], y[number]),
            xytext=(0, -away if number in below else away),
            textcoords="offset points",
            ha="center",
            va="top" if number in below else "bottom",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    strip = {"color": "#d9d9d9", "alpha": 0.4, "zorder": 0, "linewidth": 0}
    axes.set_xlim(left / 3, x.max() * 8)
    axes.set_ylim(bottom / 8, y.max() * 8)
    if (y <= bottom).any():
        axes.axhspan(bottom / 8, bottom * 4, **strip)
    if (x <= left).any():
        axes.axvspan(left / 3, left * 3, **strip)
    axes.set_xlabel("variance / squared norm of the gradient")
    axes.set_ylabel("squared bias / squared norm of the gradient")
    axes.legend(handles=_handles(), loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _placed(values: pd.Series) -> tuple[np.ndarray, float]:
    """Where values lie on a logarithmic axis, and where those do that are zero or not known."""
    known = values.to_numpy(float)
    positive = known[known > ZERO]
    floor = (float(positive.min()) if len(positive) else 1.0) / 30
    return np.where(known > ZERO, known, floor), floor


def _handles() -> list[Line2D]:
    looks = {
        "unbiased": (UNBIASED, "none"),
        "biased, as measured": (BIASED, BIASED),
        "biased, none measured": (BIASED, "none"),
    }
    return [
        Line2D([], [], marker="o", linestyle="", color=color, markerfacecolor=face, label=label)
        for label, (color, face) in looks.items()
    ]
