"""The picture of ``hierarchical_counts.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from style import PALETTE

MOST = 16
"""Coordinates that are drawn."""


def draw(tables: dict[str, pd.DataFrame], title: str) -> Figure:
    """Means of each guide in sds of NUTS from NUTS' mean, with a bar of the guide's sd both ways."""
    truth = tables["NUTS"]
    order = [key for key in truth.index if key[0].endswith("_scale") or key[0] == "mu"]
    order = [*order, *(key for key in truth.index if key not in order)][:MOST]
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(order) + 1.8), layout="constrained")
    shifts = np.linspace(-0.3, 0.3, max(2, len(tables) - 1))
    for shift, colour, label in zip(shifts, PALETTE[1:], list(tables)[1:], strict=False):
        found = tables[label].loc[order]
        means = (found["mean"] - truth.loc[order, "mean"]) / truth.loc[order, "sd"]
        ratio = found["sd"] / truth.loc[order, "sd"]
        places = shift - np.arange(len(order))
        axes.errorbar(means, places, xerr=ratio, fmt="o", color=colour, label=label, markersize=4)
    axes.axvspan(-1, 1, color="0.9", zorder=0, label="NUTS")
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(-np.arange(len(order)), [f"{name}[{i}]" for name, i in order])
    axes.set(xlabel="mean of the guide ± its sd, in sds of NUTS from the mean of NUTS")
    axes.set_title(f"Posterior of the {title}")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
