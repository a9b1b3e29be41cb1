"""The picture of a study: variance, and bias beside it."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .bias import SIGNIFICANT

UNBIASED, BIASED = "#2a6f97", "#d1495b"


def plot_summary(summary: pd.DataFrame, axes: Any = None) -> np.ndarray:
    """Draws the summary of a study on two axes: relative variance and relative bias.

    Biased estimators are red. A bias that can't be told from zero (``bias_z`` below 4) is hollow; one
    of which nothing is known is so called.
    """
    if axes is None:
        height = 1.2 + 0.35 * len(summary)
        _, axes = plt.subplots(1, 2, figsize=(9, height), sharey=True, layout="constrained")
    variance_axis, bias_axis = axes
    places = np.arange(len(summary))[::-1]
    colors = [UNBIASED if unbiased else BIASED for unbiased in summary["unbiased"]]
    scale = summary["relative_variance"] / summary["variance"].replace(0, np.nan)
    low = summary["relative_variance"] - summary["variance_low"] * scale
    high = summary["variance_high"] * scale - summary["relative_variance"]
    for i, place in enumerate(places):
        value = summary["relative_variance"].iloc[i]
        if value > 0:
            error = [[max(low.iloc[i], 0.0)], [max(high.iloc[i], 0.0)]]
            variance_axis.errorbar(value, place, xerr=error, fmt="o", color=colors[i], capsize=3)
        else:
            variance_axis.text(
                0.02,
                place,
                "exact",
                va="center",
                color=colors[i],
                transform=variance_axis.get_yaxis_transform(),
            )
        size, z = summary["relative_bias"].iloc[i], summary["bias_z"].iloc[i]
        seen = z > SIGNIFICANT
        face = colors[i] if seen else "white"
        if np.isfinite(size):
            bias_axis.plot(size, place, "o", color=colors[i], markerfacecolor=face)
            bias_axis.annotate(
                f"{size:.0%}" if seen else "not known" if np.isnan(z) else "none seen",
                (size, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    variance_axis.set_xscale("log")
    variance_axis.set_xlabel("variance / squared norm of the gradient")
    bias_axis.set_xlabel("bias / norm of the gradient")
    bias_axis.margins(x=0.2)
    bias_axis.set_xlim(left=min(-0.02, bias_axis.get_xlim()[0]))
    variance_axis.set_yticks(places, summary.index)
    for axis in axes:
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return np.asarray(axes)
