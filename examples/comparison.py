"""Estimators side by side: variance and bias along one run, and a training curve of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import torch
from datasets import Images
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from torch import nn
from tqdm import tqdm
from training import Run, binarised, train

import pyro_reparam_ext as pre

CANDIDATES: dict[str, Callable[[], tuple[pre.estimators.base.Estimator, int]]] = {
    "Pathwise": lambda: (pre.Pathwise(), 1),
    "Pathwise, 4 particles": lambda: (pre.Pathwise(), 4),
    "ScoreFunction, ema": lambda: (pre.ScoreFunction(baseline="ema"), 1),
    "LeaveOneOut, 2 particles": lambda: (pre.LeaveOneOut(), 2),
    "LeaveOneOut, 4 particles": lambda: (pre.LeaveOneOut(), 4),
    "DisARM": lambda: (pre.DisARM(), 1),
    "DisARM, 2 pairs": lambda: (pre.DisARM(num_pairs=2), 1),
    "REBAR": lambda: (pre.REBAR(), 1),
    "LocalExpectation": lambda: (pre.LocalExpectation(max_evaluations=64), 1),
    "GumbelSoftmax, T=1": lambda: (pre.GumbelSoftmax(1.0, score="discrete"), 1),
    "StraightThrough": lambda: (pre.StraightThrough(), 1),
    "ST-GumbelSoftmax, T=1": lambda: (pre.StraightThroughGumbelSoftmax(1.0), 1),
}
"""Label -> an estimator and the particles of its ELBO."""

PARTS = ("encoder", "decoder")
SIGNIFICANT = 4.0
"""A bias whose corrected z-score is below this can't be told from zero."""


def candidates(vae: nn.Module, x: torch.Tensor) -> dict[str, pre.TraceEstimator_ELBO]:
    """Fresh ELBOs of the candidates that serve the latents of ``vae``."""
    prior = vae.latent.prior(x)
    made = {label: make() for label, make in CANDIDATES.items()}
    return {
        label: pre.TraceEstimator_ELBO(
            {"z": estimator}, num_particles=num_particles, max_plate_nesting=1
        )
        for label, (estimator, num_particles) in made.items()
        if estimator.supports(prior)
    }


class Comparison:
    """One reference run, a study at each of its snapshots, and a short run per estimator."""

    def __init__(
        self, args: argparse.Namespace, images: Images, make_vae: Callable[[], nn.Module]
    ) -> None:
        self.args, self.images, self.make_vae = args, images, make_vae
        self.batch = binarised(
            images.train[: args.batch_size], torch.Generator().manual_seed(args.seed)
        )
        self.draws = 8 if args.smoke else args.draws
        self.warmup = min(self.draws, 200)
        self.short = min(args.steps, 1500)
        steps = args.steps
        self.snapshots = sorted({max(1, steps // 10), max(1, steps // 3), steps})

    def run(self) -> list[Path]:
        """Runs everything, prints the table, and returns the paths that were written."""
        table, study = self.studies()
        curves = self.curves()
        paths = [self.args.out / f"comparison.{suffix}" for suffix in ("png", "nc", "csv")]
        figure = self.figure(table, curves)
        figure.savefig(paths[0], dpi=150)
        plt.close(figure)
        # The gradients of all weights by all estimators would take hundreds of megabytes.
        study.save(paths[1], params=lambda name: name.endswith("bias"))
        table.to_csv(paths[2], index=False)
        self.report(table, curves)
        return paths

    def studies(self) -> tuple[pd.DataFrame, pre.GradientStudy]:
        """The summaries at all snapshots as one table, and the study at the last."""
        vae = self.make_vae()
        reference_run = self._train(
            vae,
            candidates(vae, self.batch)[vae.latent.default_estimator],
            self.args.steps,
            "reference run",
            self.snapshots,
        )
        frames = []
        for step, state in reference_run.snapshots.items():
            vae.load_state_dict(state)
            pyro.clear_param_store()
            study = pre.gradient_study(
                vae.model,
                vae.guide,
                self.batch,
                estimators=candidates(vae, self.batch),
                num_draws=self.draws,
                reference=vae.latent.reference,
                seed=self.args.seed,
                warmup=self.warmup,
            )
            for part in PARTS:
                frame = study.summary(params=lambda name, part=part: name.startswith(part))
                frame = frame.reset_index(names="estimator")
                frame.insert(0, "parameters", part)
                frame.insert(0, "step", step)
                frames.append(frame)
        return pd.concat(frames, ignore_index=True), study

    def curves(self) -> dict[str, pd.DataFrame]:
        """A training curve per estimator, all from the same initial parameters."""
        labels = list(candidates(self.make_vae(), self.batch))
        curves = {}
        for label in tqdm(labels, desc="training curves", disable=not sys.stderr.isatty()):
            vae = self.make_vae()
            elbo = candidates(vae, self.batch)[label]
            curves[label] = self._train(vae, elbo, self.short, label).curve
        return curves

    def _train(
        self,
        vae: nn.Module,
        elbo: pre.TraceEstimator_ELBO,
        steps: int,
        description: str,
        snapshots_at: list[int] | None = None,
    ) -> Run:
        return train(
            vae,
            elbo,
            self.images,
            steps=steps,
            batch_size=self.args.batch_size,
            learning_rate=self.args.learning_rate,
            snapshots_at=snapshots_at or (),
            description=description,
        )

    # -- report -----------------------------------------------------------------------------------

    def report(self, table: pd.DataFrame, curves: dict[str, pd.DataFrame]) -> None:
        print(
            f"\n{self.images.name}, {self.args.latent} latents, one batch of {len(self.batch)}, "
            f"{self.draws} gradients per estimator"
        )
        columns = [
            "estimator",
            "unbiased",
            "evaluations",
            "relative_variance",
            "relative_bias",
            "bias_z",
            "seconds_per_gradient",
            "work_normalized_variance",
        ]
        for (step, part), rows in table.groupby(["step", "parameters"], sort=False):
            print(f"\ngradient in the {part}'s parameters, model frozen after {step} steps")
            print(rows[columns].to_string(index=False, float_format="{:.3g}".format))
        print(f"\ntest ELBO in nats per image after {self.short} steps, and seconds of training")
        for label, curve in curves.items():
            last = curve.iloc[-1]
            print(f"{label:<26}{last.test_elbo:8.2f}{last.seconds:8.1f}")
        print()

    def figure(self, table: pd.DataFrame, curves: dict[str, pd.DataFrame]) -> Figure:
        labels = list(curves)
        figure, axes = plt.subplots(
            2,
            3,
            figsize=(18, max(7.0, 2.6 + 0.62 * len(labels))),
            width_ratios=(1.1, 1, 1.1),
            layout="constrained",
        )
        for row, part in zip(axes, PARTS, strict=True):
            rows = table[table["parameters"] == part]
            _dots(row[0], rows, labels, "relative_variance", self.snapshots)
            _dots(row[1], rows, labels, "relative_bias", self.snapshots)
            row[0].set_title(f"{part}: variance of the gradient")
            row[1].set_title(f"{part}: bias of the gradient")
            row[0].set_xlabel("variance / squared norm of the true gradient")
            row[1].set_xlabel("norm of the bias / norm of the true gradient")
            row[1].set_yticklabels([])
        unbiased = table.groupby("estimator")["unbiased"].first()
        _training(axes[0, 2], curves, unbiased, "step", "step")
        _training(axes[1, 2], curves, unbiased, "seconds", "seconds of training")
        axes[0, 2].set_title("test ELBO while training by each")
        axes[0, 2].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.02))
        figure.legend(handles=_key(self.snapshots), loc="outside lower center", ncols=7, frameon=False)
        figure.suptitle(
            f"Gradient estimators of a VAE with {self.args.latent} latents on {self.images.name} "
            f"({self.draws} gradients each, batch {len(self.batch)})"
        )
        return figure


def _shade(index: int, count: int) -> tuple[float, ...]:
    return plt.get_cmap("viridis")(0.85 - 0.8 * index / max(count - 1, 1))


def _dots(axes: Axes, rows: pd.DataFrame, labels: list[str], column: str, snapshots: list[int]) -> None:
    """One line per estimator, one dot per snapshot; a zero lies on the left edge."""
    places = {label: -i for i, label in enumerate(labels)}
    visible = rows[column][rows[column] > 0]
    floor = 10 ** np.floor(np.log10(visible.min())) if len(visible) else 1e-3
    for row in rows.itertuples():
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
        seen = column == "relative_variance" or row.bias_z >= SIGNIFICANT
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
    colors = plt.get_cmap("tab20" if len(curves) > 10 else "tab10").colors
    for (name, curve), color in zip(curves.items(), colors, strict=False):
        axes.plot(
            curve[column],
            curve["test_elbo"],
            label=name,
            color=color,
            linestyle="-" if unbiased[name] else "--",
            marker="." if unbiased[name] else "D",
            markersize=4,
        )
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
