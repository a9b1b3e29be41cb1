"""The tables and the picture of ``estimators_from_scratch.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from expectations import square, wave
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats
from style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION

COLOURS = {
    "score function": VERMILION,
    "baseline E[f]": ORANGE,
    "leave-one-out, 2 samples": GREEN,
    "pathwise": BLUE,
    "straight-through": PINK,
    "Gumbel-Softmax, T = 1": SKY,
    "Gumbel-Softmax, T = 0.1": GREY,
}


def tables(measured: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, str]]:
    """Name -> table and title: of the means and of the variances."""
    keys = ["expectation", "estimator", "d/d"]
    means = {
        "exact gradient": "exact gradient",
        "its mean": "mean of the estimator",
        "from scratch: mean": "from scratch",
        "from scratch: error": "±",
        "package: mean": "package",
        "package: error": "± ",
    }
    variances = {
        "its variance": "exact variance",
        "from scratch: variance": "from scratch",
        "package: variance": "package",
    }
    found = {}
    for name, columns, title in (
        ("table", means, "Gradients of expectations, by formulas and by Pyro programs"),
        ("variance", variances, "Variance of one draw of the gradient"),
    ):
        frame = measured[keys + list(columns)].rename(columns=columns)
        moment = "mean" if name == "table" else "variance"
        both = measured[[f"{source}: p of {moment}" for source in ("from scratch", "package")]]
        frame["p"] = (2 * both.min(axis=1)).clip(upper=1.0)  # of the worse of two
        found[name] = (frame, title)
    return found


def slopes(curves: pd.DataFrame) -> pd.DataFrame:
    """The slope of the error on logarithmic axes, -1/2 by mathematics where there is no bias."""
    rows = []
    for (name, label), curve in curves.groupby(["expectation", "estimator"], sort=False):
        fit = stats.linregress(np.log(curve["samples"]), np.log(curve["error"]))
        last = curve.iloc[-1]
        rows.append((name, label, fit.slope, fit.stderr, last["samples"], last["error"], last["bias"]))
    columns = ("expectation", "estimator", "slope", "±", "samples", "error then", "bias")
    return pd.DataFrame(rows, columns=columns)


def picture(
    measured: pd.DataFrame,
    curves: pd.DataFrame,
    along: dict[str, list[tuple[float, pd.DataFrame]]],
) -> Figure:
    figure, axes = plt.subplots(2, 3, figsize=(13.5, 8.4), layout="constrained")
    names = list(dict.fromkeys(curves["expectation"]))
    thetas, ks = np.linspace(0, 4, 81), np.geomspace(0.2, 10, 81)
    _variances(axes[0, 0], along["theta"], [(t, square(t, 1.0)) for t in thetas])
    axes[0, 0].set(
        yscale="log",
        xlabel="t",
        title="variance, all unbiased: N(t, 1), x²",
    )
    axes[0, 0].set_xticks(range(5))
    _variances(axes[0, 1], along["k"], [(k, wave(0.5, k)) for k in ks])
    axes[0, 1].set(
        xscale="log",
        yscale="log",
        xlabel="k",
        title="variance, all unbiased: N(t, 1), sin(k x)",
    )
    marks = (0.2, 0.5, 1, 2, 5, 10)
    axes[0, 1].set_xticks(marks, [f"{k:g}" for k in marks])
    for ax, name, title in (
        (axes[0, 2], names[0], "error of an average: f = x², t = 2"),
        (axes[1, 2], names[1], "error of an average: Bernoulli"),
    ):
        _errors(ax, curves[curves["expectation"] == name])
        ax.set_title(title)
    for ax in axes[0, :2]:
        ax.set_ylabel("variance of one draw")
    _bars(axes[1, 0], axes[1, 1], measured[measured["expectation"] == names[1]])
    handles = [Line2D([], [], color=c, label=label) for label, c in COLOURS.items()]
    for marker, face, label in (("o", "grey", "from scratch"), ("s", "none", "package")):
        handles.append(
            Line2D([], [], color="grey", marker=marker, markerfacecolor=face, ls="", label=label)
        )
    handles.append(Line2D([], [], color="grey", label="lines: closed form, quadrature or enumeration"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _variances(ax: Axes, measured: list[tuple[float, pd.DataFrame]], exact: list) -> None:
    labels = exact[0][1].truths
    for label in labels:
        colour, xs = COLOURS[label], [x for x, _ in exact]
        ax.plot(xs, [e.truths[label].variance[0] for _, e in exact], color=colour)
        for x, frame in measured:
            row = frame[frame["estimator"] == label].iloc[0]
            ax.plot(x, row["from scratch: variance"], "o", color=colour, markersize=4)
            ax.plot(
                x, row["package: variance"], "s", color=colour, markersize=9, markerfacecolor="none"
            )
    ax.grid(alpha=0.3)


def _errors(ax: Axes, curves: pd.DataFrame) -> None:
    for label, curve in curves.groupby("estimator", sort=False):
        ax.plot(curve["samples"], curve["error"], "o", color=COLOURS[label], markersize=5)
        ax.plot(curve["samples"], curve["expected"], color=COLOURS[label])
    ax.set(xscale="log", yscale="log", xlabel="samples", ylabel="root mean squared error")
    ax.grid(alpha=0.3)


def _bars(left: Axes, right: Axes, rows: pd.DataFrame) -> None:
    """Variance and, beside it, the bias of each estimator, relative to the exact gradient."""
    for place, (_, row) in enumerate(rows.iterrows()):
        exact, colour = row["exact gradient"], COLOURS.get(row["estimator"], "black")
        tick = {"marker": "|", "markersize": 24, "markeredgewidth": 2, "color": colour}
        if row["its variance"] == 0:
            left.text(0.02, place, "none: exact", va="center", transform=left.get_yaxis_transform())
        else:
            left.plot(row["its variance"] / exact**2, place, **tick)
        right.plot((row["its mean"] - exact) / exact, place, **tick)
        for source, offset, style in (
            ("from scratch", 0.18, {"marker": "o", "markersize": 4}),
            ("package", -0.18, {"marker": "s", "markersize": 6, "markerfacecolor": "none"}),
        ):
            if row["its variance"] > 0:
                left.plot(row[f"{source}: variance"] / exact**2, place + offset, color=colour, **style)
            bias = (row[f"{source}: mean"] - exact) / exact
            error = 2 * row[f"{source}: error"] / abs(exact)
            right.errorbar(bias, place + offset, xerr=error, color=colour, capsize=2, **style)
    left.set(xscale="log", xlabel="variance / exact gradient²", title="variance: Bernoulli ...")
    right.set(xlabel="(mean - exact gradient) / exact gradient", title="... and bias (± 2 errors)")
    left.set_yticks(range(len(rows)), rows["estimator"])
    right.set_yticks(range(len(rows)), [""] * len(rows))
    for ax in (left, right):
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(axis="x", alpha=0.3)
    right.axvline(0, color="black", linewidth=0.8)
