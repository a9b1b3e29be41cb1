"""Draws images/relaxations.png and writes the tables beside it: variance and bias of relaxations.

The gradient of the ELBO of a VAE with one-hot latents on digits, in the parameters of its encoder, by
every relaxation there is: by temperature (relaxations_measured.md), and by every straight-through
estimator (straight_through_measured.md). Run from the root of the repository:
``python docs/relaxations_figure.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import torch
from matplotlib.lines import Line2D
from pyro import poutine
from pyro.infer import Trace_ELBO

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from datasets import load  # noqa: E402
from style import SIGNIFICANT  # noqa: E402
from vae import HIDDEN, VAE, OneHotLatent  # noqa: E402
from vae_training import binarised, train  # noqa: E402

import pyro_reparam_ext as pre  # noqa: E402
from pyro_reparam_ext.estimators import Estimator  # noqa: E402

TEMPERATURES = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05)
STEPS, BATCH = 3000, 50


def by_reparameteriser(vae: VAE, temperature: float, **options: Any) -> pre.Variant:
    """Pyro's own ELBO, guide and model relaxed by ``AutoRelax``."""
    strategy = pre.reparam.AutoRelax(temperature, **options)
    return pre.Variant(
        elbo=Trace_ELBO(max_plate_nesting=1),
        model=poutine.reparam(vae.model, config=strategy),
        guide=poutine.reparam(vae.guide, config=strategy),
    )


RELAXED = {
    "GumbelSoftmax, relaxed score": lambda vae, t: pre.GumbelSoftmax(t, score="relaxed"),
    "GumbelSoftmax, discrete score": lambda vae, t: pre.GumbelSoftmax(t, score="discrete"),
    "StraightThroughGumbelSoftmax": lambda vae, t: pre.StraightThroughGumbelSoftmax(t),
    "AutoRelax, relaxed score": lambda vae, t: by_reparameteriser(vae, t),
    "AutoRelax, discrete score": lambda vae, t: by_reparameteriser(vae, t, score="discrete"),
    "AutoRelax, straight-through": lambda vae, t: by_reparameteriser(vae, t, straight_through=True),
}
UNBIASED = "LeaveOneOut, 4 particles"
FREE = {
    "StraightThrough": lambda: pre.StraightThrough(),
    UNBIASED: lambda: pre.TraceEstimator_ELBO(
        {"z": pre.LeaveOneOut()}, num_particles=4, max_plate_nesting=1
    ),
    "REBAR": lambda: pre.REBAR(),
}
"""Without temperature, for comparison."""
HARD: dict[str, Estimator] = {
    "StraightThrough()": pre.StraightThrough(),
    "StraightThroughGumbelSoftmax(1.0)": pre.StraightThroughGumbelSoftmax(1.0),
    "StraightThroughGumbelSoftmax(0.5)": pre.StraightThroughGumbelSoftmax(0.5),
    "StraightThroughGumbelSoftmax(0.1)": pre.StraightThroughGumbelSoftmax(0.1),
    "GumbelRao(1.0, num_samples=100)": pre.GumbelRao(1.0, num_samples=100),
    "GumbelRao(0.5, num_samples=10)": pre.GumbelRao(0.5, num_samples=10),
    "GumbelRao(0.5, num_samples=100)": pre.GumbelRao(0.5, num_samples=100),
    "GumbelRao(0.1, num_samples=100)": pre.GumbelRao(0.1, num_samples=100),
    "GappedStraightThrough(1.0)": pre.GappedStraightThrough(1.0),
    "GappedStraightThrough(0.5)": pre.GappedStraightThrough(0.5),
    "ReinMax()": pre.ReinMax(),
    "ReinMax(1.5)": pre.ReinMax(1.5),
    "DecoupledStraightThrough(1.0, 0.5)": pre.DecoupledStraightThrough(1.0, 0.5),
    "DecoupledStraightThrough(1.0, 2.0)": pre.DecoupledStraightThrough(1.0, 2.0),
}
"""Straight-through estimators."""
REFERENCE = "LocalExpectation"

STYLES = {
    label: (f"C{i % 3}", *(("-", "o") if i < 3 else ("--", "s"))) for i, label in enumerate(RELAXED)
}
"""An estimator and the reparameteriser of the same relaxation in one colour."""
FREE_COLOURS = {label: f"C{i + 4}" for i, label in enumerate(FREE)}


def measure(steps: int, draws: int) -> pd.DataFrame:
    images = load(None)
    pyro.set_rng_seed(0)
    vae = VAE(images.pixels, HIDDEN[images.name], OneHotLatent(OneHotLatent.sizes[images.name]))
    elbo = pre.TraceEstimator_ELBO(pre.REBAR(), max_plate_nesting=1)
    train(vae, elbo, images, steps=steps, batch_size=BATCH, learning_rate=1e-3)
    pyro.clear_param_store()
    made = {(label, t): make(vae, t) for label, make in RELAXED.items() for t in TEMPERATURES}
    made |= {(label, float("nan")): make() for label, make in FREE.items()}
    made |= {(label, float("nan")): estimator for label, estimator in HARD.items()}
    study = pre.gradient_study(
        vae.model,
        vae.guide,
        binarised(images.train[:BATCH], torch.Generator().manual_seed(0)),
        estimators={
            **{f"{label}, T = {t:g}": estimator for (label, t), estimator in made.items()},
            REFERENCE: pre.LocalExpectation(max_evaluations=64),
        },
        reference=REFERENCE,
        num_draws=draws,
        warmup=min(draws, 200),
    )
    summary = study.summary(params=lambda name: name.startswith("encoder")).drop(REFERENCE)
    summary["label"], summary["temperature"] = zip(*made, strict=True)
    return summary


LEAST = 0.1
"""The end of the axis of the bias: what is below is drawn there."""


def draw(summary: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for label, rows in summary.groupby("label", sort=False):
        for ax, column in zip(axes, ("relative_variance", "relative_bias"), strict=True):
            values = rows[column].clip(lower=LEAST)
            clear = rows["bias_z"] > SIGNIFICANT
            if label in FREE:
                if column == "relative_variance" or clear.all():
                    ax.axhline(values.item(), linestyle=":", color=FREE_COLOURS[label], label=label)
                continue
            colour, line, marker = STYLES[label]
            ax.plot(rows["temperature"], values, color=colour, linestyle=line, label=label)
            for known, fill in ((clear, colour), (~clear, "white")):
                ax.scatter(
                    rows["temperature"][known],
                    values[known],
                    28,
                    fill,
                    marker=marker,
                    edgecolors=colour,
                    zorder=3,
                )
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="temperature")
        ax.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
        ax.minorticks_off()
    axes[1].set_ylim(bottom=0.9 * LEAST)
    axes[0].set_title("variance / squared norm of the exact gradient")
    axes[1].set_title("norm of the bias / norm of the exact gradient")
    handles, labels = axes[0].get_legend_handles_labels()
    handles += [Line2D([], [], color="grey", marker="o", linestyle="", fillstyle="none")]
    labels += [f"can't be told from no bias (drawn at {LEAST} or above)"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def table(summary: pd.DataFrame) -> str:
    """Rows: how; columns: variance and bias at some temperatures."""
    shown = (1.0, 0.5, 0.1)
    lines = ["| " + " | ".join(("", *(f"T = {t:g}: variance, bias" for t in shown))) + " |"]
    lines.append("|" + "---|" * (1 + len(shown)))
    for label, rows in summary.groupby("label", sort=False):
        rows = rows.set_index("temperature")
        cells = [_cell(rows.loc[t]) for t in shown] if label not in FREE else [_cell(rows.iloc[0])] * 3
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hard_table(summary: pd.DataFrame) -> str:
    """Rows: straight-through estimators, and one without bias; columns: variance and bias."""
    rows = summary.set_index("label").loc[[*HARD, UNBIASED]]
    lines = ["| | variance | bias |", "|---|---|---|"]
    lines += [f"| {label} | {_cell(row).replace(',', ' |')} |" for label, row in rows.iterrows()]
    return "\n".join(lines)


def write(text: str, name: str) -> None:
    (ROOT / "docs" / name).write_text(text + "\n", encoding="utf-8")


def _cell(row: pd.Series) -> str:
    bias = _short(row["relative_bias"]) if row["bias_z"] > SIGNIFICANT else "none seen"
    return f"{_short(row['relative_variance'])}, {bias}"


def _short(x: float) -> str:
    return f"{x:.2g}" if x < 10 else f"{x:.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    args = parser.parse_args()
    summary = measure(3 if args.smoke else STEPS, 8 if args.smoke else 500)
    hard = summary["label"].isin(HARD)
    tables = table(summary[~hard]), hard_table(summary)
    print(*tables, sep="\n\n")
    if not args.smoke:
        draw(summary[~hard], ROOT / "docs" / "images" / "relaxations.png")
        write(tables[0], "relaxations_measured.md")
        write(tables[1], "straight_through_measured.md")
