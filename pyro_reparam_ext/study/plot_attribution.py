"""The picture of an attribution: a stacked bar of shares for every parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from .attribution import INTERACTION
from .streams import ELSEWHERE

if TYPE_CHECKING:
    import pandas as pd

COLORS = ("#2a6f97", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Colours of sites and plates, told apart by colour-blind readers too; with hatches beyond so many."""
NEUTRAL = {ELSEWHERE: "#8d99ae", INTERACTION: "#d9d9d9"}
HATCHES = ("", "//", "..", "xx")
NAMED = 0.06
"""The smallest share that is written into its bar."""


def plot_shares(table: pd.DataFrame, axes: Any = None) -> Any:
    """Draws the shares of an attribution with intervals: one bar a parameter, one colour a source.

    A line at the end of each part is the 95 % interval of its share. A negative share, which is zero
    within its error, has no part.
    """
    sources = list(dict.fromkeys(table.columns.get_level_values(0)))
    if axes is None:
        _, axes = plt.subplots(figsize=(8, 1.6 + 0.45 * len(table)), layout="constrained")
    places = np.arange(len(table))[::-1]
    left, furthest = np.zeros(len(table)), 1.0
    own = [source for source in sources if source not in NEUTRAL]
    for source in sources:
        shares = table[source]["share"].fillna(0).clip(lower=0).to_numpy()
        number = own.index(source) if source in own else 0
        color = NEUTRAL.get(source, COLORS[number % len(COLORS)])
        hatch = HATCHES[number // len(COLORS) % len(HATCHES)]
        axes.barh(
            places,
            shares,
            left=left,
            height=0.6,
            color=color,
            hatch=hatch,
            label=source,
            edgecolor="white",
        )
        shown = shares > 0
        half = (table[source]["high"] - table[source]["low"]).to_numpy()[shown] / 2
        ends = (left + shares)[shown]
        furthest = max([furthest, *(ends + half)])
        axes.errorbar(
            ends, places[shown], xerr=half, fmt="none", ecolor="#333333", elinewidth=1, capsize=2
        )
        for place, start, share in zip(places, left, shares, strict=True):
            if share >= NAMED:
                axes.annotate(
                    f"{share:.0%}",
                    (start + share / 2, place + 0.17),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if color == COLORS[0] else "black",
                )
        left = left + shares
    for place, unknown in zip(places, table[sources[0]]["share"].isna(), strict=True):
        if unknown:
            axes.text(0.01, place, "no variance", va="center", fontsize=8)
    axes.set_yticks(places, table.index)
    axes.set_xlim(0, 1.02 * furthest)
    axes.set_xlabel("share in the variance of the gradient")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(sources), 4), frameon=False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
