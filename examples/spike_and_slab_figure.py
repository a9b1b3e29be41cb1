"""The picture of the example of variable selection."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from style import BLACK, GREEN, ORANGE, PINK, SKY, VERMILION

STYLES = {
    "exact": (BLACK, "_"),
    "integrated out, independent": (VERMILION, "o"),
    "the same, by Trace_ELBO": (PINK, "v"),
    "integrated out, dependent": (GREEN, "D"),
    "kept, independent": (ORANGE, "s"),
    "kept, dependent": (SKY, "^"),
}


def draw(inclusion: pd.DataFrame, verdicts: pd.DataFrame) -> Figure:
    """The inclusion of each feature by each guide, and how far each is from the posterior."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.5), width_ratios=(2.2, 1), layout="constrained"
    )
    place = np.arange(inclusion.shape[1])
    for i, label in enumerate(inclusion.index):
        colour, marker = STYLES[label]
        if label == "exact":
            left.bar(place, inclusion.loc[label], width=0.8, color="#dddddd", label=label)
        else:
            across = place + 0.14 * (i - 3)
            left.plot(across, inclusion.loc[label], marker, color=colour, label=label)
    left.set_xticks(place, inclusion.columns)
    left.set(ylim=(-0.03, 1.03), ylabel="probability that it is in")
    left.set_title("Which features matter")
    up = np.arange(len(verdicts))[::-1]
    colours = [STYLES[label][0] for label in verdicts["guide"]]
    right.barh(up, verdicts["KL"].clip(lower=0), color=colours)
    for y, (_, row) in zip(up, verdicts.iterrows(), strict=True):
        said = "ok" if row["guide ok"] else "not ok"
        right.text(0.01 * verdicts["KL"].max(), y + 0.45, f"check_guide says {said}")
    right.set_yticks([])
    right.set(xlabel="nats", ylim=(-0.6, len(verdicts) - 0.2))
    right.set_title("KL(guide || posterior), and the verdict")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
