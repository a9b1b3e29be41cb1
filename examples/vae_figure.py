"""The picture of a comparison: variance and bias of the gradient as dots, and training curves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from style import styles, told_from_zero

PARTS = ("encoder", "decoder")


def draw(gradients: pd.DataFrame, curves: dict[str, pd.DataFrame], title: str) -> Figure:
    """A row for the gradient in the encoder's parameters, and one for the decoder's."""
    labels, snapshots = list(curves), sorted(gradients["step"].unique())
    figure, axes = plt.subplots(
        2,
        3,
        figsize=(14, max(6.5, 2.4 + 0.52 * len(labels))),
        width_ratios=(1, 1, 1.15),
        layout="constrained",
    )
    for row, part in zip(axes, PARTS, strict=True):
        rows = gradients[gradients["parameters"] == part]
        _dots(row[0], rows, labels, "relative_variance", snapshots)
        _dots(row[1], rows, labels, "relative_bias", snapshots)
        row[0].set_title(f"{part}: variance of the gradient")
        row[1].set_title(f"{part}: bias of the gradient")
        row[0].set_xlabel("variance / squared norm of the true gradient")
        row[1].set_xlabel("norm of the bias / norm of the true gradient")
        row[1].set_yticklabels([])
    unbiased = gradients.groupby("estimator")["unbiased"].first()
    _training(axes[0, 2], curves, unbiased, "step", "step")
    _training(axes[1, 2], curves, unbiased, "seconds", "CPU seconds of training")
    axes[0, 2].set_title("test ELBO while training by each")
    handles = [*_key(snapshots), *axes[0, 2].get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(title)
    return figure


def _shade(index: int, count: int) -> tuple[float, ...]:
    return plt.get_cmap("viridis")(0.85 - 0.8 * index / max(count - 1, 1))


def _dots(axes: Axes, rows: pd.DataFrame, labels: list[str], column: str, snapshots: list[int]) -> None:
    """One line per estimator, one dot per snapshot; a zero lies on the left edge."""
    places = {label: -i for i, label in enumerate(labels)}
    visible = rows[column][rows[column] > 0]
    floor = 10 ** np.floor(np.log10(visible.min())) if len(visible) else 1e-3
    for row in rows.assign(seen=told_from_zero(rows)).itertuples():
        index = snapshots.index(row.step)
        color = _shade(index, len(snapshots))
        value = getattr(row, column)
        if np.isnan(value):
            text = "the reference"
            axes.text(
                0.02,
                places[row.estimator],
                text,
                fontsize=8,
                color="0.4",
                va="center",
                transform=axes.get_yaxis_transform(),
            )
            continue
        seen = column == "relative_variance" or row.seen
        axes.plot(
            max(value, floor),
            places[row.estimator] + 0.22 * (1 - index),
            "o" if row.unbiased else "D",
            color=color,
            markerfacecolor=color if seen else "none",
            markersize=7,
            clip_on=False,
        )
    ceiling = 10 ** np.ceil(np.log10(visible.max())) if len(visible) else 1.0
    axes.set_xscale("log")
    axes.set_xlim(floor, max(ceiling, 10 * floor))
    axes.xaxis.set_minor_formatter(NullFormatter())
    biased = set(rows["estimator"][~rows["unbiased"]])
    axes.set_yticks(list(places.values()), [f"{x} (biased)" if x in biased else x for x in labels])
    for label, place in places.items():
        if label in biased:
            axes.axhspan(place - 0.5, place + 0.5, color="tab:red", alpha=0.08, linewidth=0)
    axes.set_ylim(min(places.values()) - 0.5, 0.5)
    axes.grid(axis="x", alpha=0.3)


def _training(
    axes: Axes, curves: dict[str, pd.DataFrame], unbiased: pd.Series, column: str, label: str
) -> None:
    for name, style in styles(unbiased[list(curves)]).items():
        axes.plot(curves[name][column], curves[name]["test_elbo"], label=name, markersize=4, **style)
    finals = [curve["test_elbo"].max() for curve in curves.values()]
    axes.set_ylim(min(finals) - 1, max(finals) + 0.2)
    axes.set_xlabel(label)
    axes.set_ylabel("test ELBO (nats per image)")
    axes.grid(alpha=0.3)


def _key(snapshots: list[int]) -> list[Line2D]:
    def dot(marker: str, color: object, label: str, face: object = None) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            color=color,
            label=label,
            markerfacecolor=face or color,
        )

    steps = [
        dot("s", _shade(i, len(snapshots)), f"frozen after {step} steps")
        for i, step in enumerate(snapshots)
    ]
    return [
        *steps,
        dot("o", "0.3", "unbiased"),
        dot("D", "0.3", "biased"),
        dot("o", "0.3", "bias can't be told from zero", "none"),
    ]
