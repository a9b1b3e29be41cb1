"""The picture of a check: k-hat of each element of a plate, and how far the weights move each site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from ..study.plot import BIASED, UNBIASED

if TYPE_CHECKING:
    from .guide_check import GuideCheck

SHOWN = 20
"""Sites in the picture: the worst."""
LEAST = -0.5
"""k-hats below are drawn here: what is that far from the limit is all the same."""


def plot_check(check: GuideCheck, axes: Any = None) -> np.ndarray:
    """Draws a check on two axes: k-hats beside the limit, and shifts of the sites with their errors.

    What lies beyond the limit is red and a square, the rest blue and a circle.
    """
    if axes is None:
        height = max(2.6, 1.4 + 0.35 * min(len(check.sites), SHOWN))
        _, axes = plt.subplots(1, 2, figsize=(9, height), layout="constrained")
    khat_axis, shift_axis = axes
    _plot_shapes(check, khat_axis)
    _plot_shifts(check, shift_axis)
    for axis in (khat_axis, shift_axis):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return np.asarray(axes)


def _plot_shapes(check: GuideCheck, axis: Any) -> None:
    """k-hat of all weights as a line, and of the elements of each plate, plates side by side."""
    for number, shapes in enumerate(check.local.values()):
        shown = np.maximum(shapes, LEAST)
        places = number + (np.arange(len(shapes)) + 0.5) / len(shapes)  # each plate is as wide
        bad = shapes > check.limit
        axis.plot(places[~bad], shown[~bad], "o", color=UNBIASED, markersize=4)
        axis.plot(places[bad], shown[bad], "s", color=BIASED, markersize=5)
        for i in np.flatnonzero(bad)[np.argsort(-shapes[bad])][:5]:
            axis.annotate(str(i), (places[i], shown[i]), xytext=(4, 2), textcoords="offset points")
        if number:
            axis.axvline(number, color="0.85", linewidth=1)
    axis.axhline(check.limit, color="0.4", linestyle="--", label=f"limit {check.limit:.2f}")
    if np.isfinite(check.khat):
        color = BIASED if check.khat > check.limit else UNBIASED
        axis.axhline(check.khat, color=color, label=f"all weights {check.khat:.2f}")
    turned = {"rotation": 20, "ha": "right"} if len(check.local) > 1 else {}
    axis.set_xticks(np.arange(len(check.local)) + 0.5, list(check.local), **turned)
    axis.set_xlim(0, max(len(check.local), 1))
    axis.set_xlabel("elements of plates" if check.local else "no plate has elements of its own weights")
    below = any((shapes < LEAST).any() for shapes in check.local.values())
    axis.set_ylabel("k-hat of the weights" + (f"\n(lowest: {LEAST} or less)" if below else ""))
    _legend(axis)


def _plot_shifts(check: GuideCheck, axis: Any) -> None:
    """How far the weights move the mean and the sd of each site, the worst on top."""
    sites = check.sites.head(SHOWN)
    places = np.arange(len(sites))[::-1]
    ratio = np.log(sites["sd_ratio"])
    error = sites["sd_ratio_error"] / sites["sd_ratio"]
    style = {"fmt": "o", "capsize": 3}
    axis.errorbar(
        sites["mean_shift"],
        places + 0.12,
        xerr=2 * sites["mean_shift_error"],
        color=UNBIASED,
        label="mean, in sds of the guide",
        **style,
    )
    axis.errorbar(
        ratio,
        places - 0.12,
        xerr=2 * error,
        color="#e9a03b",
        label="log of the ratio of sds",
        markerfacecolor="white",
        **style,
    )
    axis.axvline(0.0, color="0.4")
    axis.set_yticks(places, sites.index)
    axis.set_ylim(-0.6, len(sites) - 0.4)
    axis.set_xlabel("moved by the weights (± 2 errors)")
    _legend(axis)


def _legend(axis: Any) -> None:
    """Above the axis, where no point lies."""
    axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
