"""The pictures of ``noisy_sine.py``, drawn from its tables."""

from __future__ import annotations

from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter
from style import BLUE, GREEN, ORANGE, VERMILION

COLOURS = (ORANGE, BLUE, GREEN)
"""Of the inputs."""


def fits_figure(predictions: pd.DataFrame, data: pd.DataFrame) -> Figure:
    """Rows: losses, without and with batch normalisation; columns: inputs; what is said of y at x."""
    inputs = predictions["input"].unique().tolist()
    kinds = list(predictions.groupby(["loss", "batch_norm"], sort=False))
    figure, axes = plt.subplots(
        len(kinds), len(inputs), figsize=(11, 10), sharex=True, sharey=True, layout="constrained"
    )
    for row, ((loss, batch_norm), of_kind) in zip(axes, kinds, strict=True):
        for panel, (_, rows) in zip(row, of_kind.groupby("input", sort=False), strict=True):
            _fit(panel, rows, data)
            panel.set_ylim(-2.2, 2.2)
        row[0].set_ylabel(f"by the {loss}\n{'BatchNorm' if batch_norm else 'no BatchNorm'}")
    for panel, name in zip(axes[0], inputs, strict=True):
        panel.set_title(f"input: x {name}")
    for panel in axes[-1]:
        panel.set_xlabel("x")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _fit(panel: Axes, rows: pd.DataFrame, data: pd.DataFrame) -> None:
    x, true, noise, mean, scale = (rows[c] for c in ("x", "true", "noise", "mean", "scale"))
    panel.plot(data["x"], data["y"], ".", color="0.45", markersize=2, label="data", zorder=2)
    band = {
        "color": BLUE,
        "alpha": 0.35,
        "linewidth": 0,
        "zorder": 1,
        "label": "learned mean ± 2 scales",
    }
    panel.fill_between(x, mean - 2 * scale, mean + 2 * scale, **band)
    panel.plot(
        x, true + 2 * noise, ":", color="black", linewidth=1, label="sin x ± 2 scales of the noise"
    )
    panel.plot(x, true - 2 * noise, ":", color="black", linewidth=1)
    panel.plot(x, true, color="black", linewidth=1, label="sin x")
    panel.plot(x, mean, color=VERMILION, linewidth=1.8, label="learned mean", zorder=3)


def curves_figure(curves: pd.DataFrame) -> Figure:
    """Error of the mean, and the learned scale, by step: the median run, and the range of the runs."""
    losses = list(curves.groupby("loss", sort=False))
    figure, axes = plt.subplots(len(losses), 2, figsize=(11, 7.5), sharex=True, layout="constrained")
    axes[1, 0].sharey(axes[0, 0])
    for (left, right), (loss, rows) in zip(axes, losses, strict=True):
        _curves(left, rows, "rmse")
        _curves(right, rows, "scale_ratio")
        left.set(ylabel="RMSE to sin x", title=f"error of the mean, by the {loss}")
        right.set(ylabel="learned / true scale", title=f"learned scale, by the {loss}")
        right.axhline(1, color="black", linewidth=1)
    axes[0, 0].set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2])
    axes[0, 1].set_yticks([1, 2, 3, 5])
    for panel in axes[-1]:
        panel.set_xlabel("step")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _curves(panel: Axes, curves: pd.DataFrame, column: str) -> None:
    for (batch_norm, line), (name, colour) in product(
        ((False, "-"), (True, "--")), zip(curves["input"].unique(), COLOURS, strict=True)
    ):
        rows = curves[(curves["input"] == name) & (curves["batch_norm"] == batch_norm)]
        by_step = rows.groupby("step")[column]
        low, high = by_step.min(), by_step.max()
        label = f"x {name}{', BatchNorm' if batch_norm else ''}"
        panel.plot(by_step.median(), line, color=colour, label=label)
        panel.fill_between(low.index, low, high, color=colour, alpha=0.12, linewidth=0)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.3)
