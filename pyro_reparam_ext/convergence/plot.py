"""The picture of a run: the loss and some parameters, and the steps that were averaged."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from .result import Losses

COLORS = ("#2a6f97", "#d1495b", "#edae49", "#66a182")
"""Of as many parameters: also apart for those who can't tell red from green."""
AVERAGED = "#444444"


def plot_run(run: Losses, axes: Any = None) -> np.ndarray:
    """Draws parameters, and the loss below them, over the steps of a run.

    Parameters are drawn around their last mean, in their own standard deviations, so that different
    ones share an axis. Steps that were averaged are shaded, reductions of the learning rate are dotted,
    and the end of the run is dashed where the rule was met.
    """
    if axes is None:
        _, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    above, below = axes
    _draw_parameters(above, run)
    _draw_loss(below, run.losses)
    for axis in axes:
        if run.averaged is not None:
            axis.axvspan(*run.averaged, color=AVERAGED, alpha=0.1, linewidth=0)
        for step in run.reductions:
            axis.axvline(step, color=AVERAGED, linestyle=":")
        if run.converged:
            axis.axvline(len(run.losses), color=AVERAGED, linestyle="--")
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    ended = {None: "", True: "converged", False: "not converged"}[run.converged]
    above.set_title(f"{len(run.losses):,} steps {ended}".rstrip().replace(" steps ", " steps: "))
    below.set_xlabel("step")
    return np.asarray(axes)


def _draw_parameters(axis: Any, run: Losses) -> None:
    """A few that are spread from the one that moved furthest to the one that moved least."""
    axis.set_ylabel("parameter, from its mean\nin standard deviations")
    if not len(run.iterates):
        axis.text(0.5, 0.5, "not recorded without until=", ha="center", transform=axis.transAxes)
        return
    start = len(run.iterates) // 2 if run.averaged is None else run.averaged[0]
    last = run.iterates[run.steps > start] if run.averaged is not None else run.iterates[start:]
    mean, spread = last.mean(0), last.std(0).clamp(min=1e-12)
    scaled = ((run.iterates - mean) / spread).numpy()
    furthest_first = np.abs(scaled[0]).argsort()[::-1]
    chosen = furthest_first[np.linspace(0, len(run.names) - 1, len(COLORS)).round().astype(int)]
    for color, place in zip(COLORS, dict.fromkeys(chosen.tolist()), strict=False):
        axis.plot(run.steps, scaled[:, place], color=color, linewidth=0.8, label=run.names[place])
    axis.set_yscale("symlog", linthresh=10, linscale=2)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)


def _draw_loss(axis: Any, losses: Tensor) -> None:
    """The losses, and their means over a hundredth of the run."""
    values = losses.numpy()
    axis.set_ylabel("loss")
    axis.plot(values, color=COLORS[0], alpha=0.25, linewidth=0.5)
    size = max(1, len(values) // 100)
    count = len(values) // size
    if not count:
        return
    means = values[: count * size].reshape(count, size).mean(1)
    axis.plot((np.arange(count) + 0.5) * size, means, color=COLORS[0])
    low, high = np.quantile(values[len(values) // 20 :], [0.001, 0.999])
    if high > low:
        axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
