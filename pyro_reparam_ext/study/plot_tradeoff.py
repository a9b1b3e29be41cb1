"""The picture of what estimators trade: variance, bias and time."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .bias import SIGNIFICANT
from .plot_attribution import COLORS

AREAS = (30.0, 400.0)
"""The areas of the dots of the fastest and of the slowest gradient, in square points."""
MARKERS = "osD^vPX*<>"
"""One for each label, beside its colour."""
ZERO = 1e-12
"""A relative variance or squared bias that is no more than rounding."""


def plot_tradeoff(summary: pd.DataFrame, axes: Any = None) -> Any:
    """Draws the summary of a study as dots: variance, bias, and seconds of a gradient as the area.

    Both axes are logarithmic. What is zero, as the variance of an exact gradient or a bias of which
    nothing was measured, lies in a grey strip at the edge. Each label has a marker and a colour of its
    own, which the legend names with its time; a dot is filled where a bias was measured.
    """
    if axes is None:
        _, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    x, left = _placed(summary["relative_variance"])
    y, bottom = _placed(summary["relative_bias"] ** 2)
    seconds = summary["seconds_per_gradient"].to_numpy()
    areas = np.maximum(AREAS[1] * seconds / seconds.max(), AREAS[0])
    above = np.argsort(np.argsort(-areas))  # small dots lie above large ones
    handles: list[Artist] = []
    for number, (label, row) in enumerate(summary.iterrows()):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        face = to_rgba(color, 0.5) if row["bias_z"] > SIGNIFICANT else "none"
        axes.scatter(
            x[number],
            y[number],
            s=areas[number],
            marker=marker,
            edgecolors=color,
            facecolors=face,
            linewidths=1.5,
            zorder=3 + above[number],
        )
        kind = "" if row["unbiased"] else ", biased"
        text = f"{label}{kind}, {1e3 * seconds[number]:.2g} ms"
        look: dict[str, Any] = {
            "marker": marker,
            "color": color,
            "markerfacecolor": face,
            "markeredgewidth": 1.5,
        }
        handles.append(Line2D([], [], linestyle="", label=text, **look))
    axes.set_xscale("log")
    axes.set_yscale("log")
    strip: dict[str, Any] = {"color": "#d9d9d9", "alpha": 0.4, "zorder": 0, "linewidth": 0}
    axes.set_xlim(left / 3, x.max() * 8)
    axes.set_ylim(bottom / 8, y.max() * 8)
    if (y <= bottom).any():
        axes.axhspan(bottom / 8, bottom * 4, **strip)
    if (x <= left).any():
        axes.axvspan(left / 3, left * 3, **strip)
    if (x <= left).any() or (y <= bottom).any():
        handles.append(Patch(label="zero, or not known", **strip))
    axes.set_xlabel("variance / squared norm of the gradient")
    axes.set_ylabel("squared bias / squared norm of the gradient")
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        frameon=False,
        title="filled: a bias was measured",
        alignment="left",
        fontsize=9,
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _placed(values: pd.Series) -> tuple[np.ndarray, float]:
    """Where values lie on a logarithmic axis, and where those do that are zero or not known."""
    known = values.to_numpy(float)
    positive = known[known > ZERO]
    floor = (float(positive.min()) if len(positive) else 1.0) / 30
    return np.where(known > ZERO, known, floor), floor
