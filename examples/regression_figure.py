"""The picture of ``regression.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from style import PALETTE


def draw(gains: pd.DataFrame, runs: pd.DataFrame, title: str) -> Figure:
    """By how much each method lowers the variance, in three phases; and what runs leave to the best."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 4.8), width_ratios=(1.4, 1), layout="constrained"
    )
    methods, phases = list(dict.fromkeys(gains["method"])), list(dict.fromkeys(gains["phase"]))
    for number, (phase, colour) in enumerate(zip(phases, PALETTE[1:], strict=False)):
        rows = gains[gains["phase"] == phase].set_index("method").loc[methods]
        places = np.arange(len(methods)) + 0.25 * (number - 1)
        left.barh(places, rows["all"], height=0.22, color=colour, label=phase)
    left.axvline(1, color="0.4", linewidth=0.8)
    left.set(xscale="log", xlabel="variance of the plain gradient / that of the method")
    left.set_yticks(range(len(methods)), methods)
    left.invert_yaxis()
    left.legend(frameon=False)
    left.set_title(f"Gradients of the guide, {title}")
    best = runs["ELBO"].max()
    for number, (name, run) in enumerate(runs.groupby("method", sort=False)):
        turn, place = divmod(number, len(PALETTE))
        style = "-" if turn == 0 else "--"
        gap = (best - run["ELBO"]).clip(lower=1e-2)
        right.plot(run["steps"], gap, color=PALETTE[place], linestyle=style, label=name)
    right.set(yscale="log", xlabel="steps", ylabel="nats to the best ELBO")
    right.legend(frameon=False, fontsize=8, ncols=2)
    right.set_title("Training")
    return figure
