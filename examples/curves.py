"""Training curves of several runs by each estimator: what they ended at, and their two panels."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from style import PALETTE

LINES = (("-", "o"), ("--", "s"))
"""Line and marker of the first labels that share the palette, and of those after them."""


def ended(curve: pd.DataFrame) -> dict[str, object]:
    """The last ELBO of the runs, mean and range, and the time that one of them took.

    Args:
        curve: columns ``seed``, ``step``, ``seconds`` and ``elbo``.
    """
    last = curve[curve["step"] == curve["step"].max()]
    elbo, seconds = last["elbo"], last["seconds"].mean()
    span = "one run" if len(last) == 1 else f"{elbo.min():.2f} to {elbo.max():.2f}"
    return {
        "ELBO": f"{elbo.mean():.2f} ({span})",
        "CPU seconds": seconds,
        "ms a step": 1000 * seconds / last["step"].iloc[0],
    }


def draw_curves(panels: Sequence[Axes], curves: dict[str, pd.DataFrame], name: str) -> None:
    """Draws the means of runs, with bands of their range, against steps and against CPU seconds."""
    for axes, column in zip(panels, ("step", "seconds"), strict=True):
        for i, (label, curve) in enumerate(curves.items()):
            line, marker = LINES[i // len(PALETTE)]
            colour = PALETTE[i % len(PALETTE)]
            by_step = curve[curve["step"] > 0].groupby("step", as_index=False)
            means, elbo = by_step.mean(), by_step["elbo"]
            place, look = means[column], {"color": colour, "marker": marker, "label": label}
            axes.plot(place, means["elbo"], line, markersize=3.5, linewidth=1.3, **look)
            low, high = elbo.min()["elbo"], elbo.max()["elbo"]
            axes.fill_between(place, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.grid(alpha=0.3)
    finals = [curve["elbo"].iloc[-1] for curve in curves.values()]
    spread = max(finals) - min(finals) + 0.5
    panels[0].set(ylim=(min(finals) - spread, max(finals) + 0.2 * spread))
    panels[0].set(xlabel="step", ylabel=f"{name} (nats per image)")
    panels[1].set(xlabel="CPU seconds of training", xscale="log")
    panels[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[1].xaxis.set_major_formatter("{x:g}")
    panels[1].xaxis.set_minor_formatter(NullFormatter())
