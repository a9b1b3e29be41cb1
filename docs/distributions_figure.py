"""Draws images/distributions.png: variance and bias of pathwise and score-function gradients.

Run from the root of the repository: ``python docs/distributions_figure.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.distributions.gradients import exact, pathwise, score_function  # noqa: E402
from tests.distributions.registry import BY_CLASS  # noqa: E402

METHODS = {"pathwise": (pathwise, "C0", "o"), "score function": (score_function, "C3", "s")}

MOST = 10
"""Standard errors at which the axis of the bias ends."""


def bias_z(samples: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest z-score over coordinates, corrected for their number."""
    error = samples.std(0) / len(samples) ** 0.5
    noisy = error > 1e-12
    if not noisy.any():
        return 0.0
    largest = ((samples.mean(0) - expected)[noisy] / error[noisy]).abs().max().item()
    p = -np.expm1(int(noisy.sum()) * np.log1p(-2 * stats.norm.sf(largest)))
    return float(stats.norm.isf(p / 2))


def measure(draws: int) -> list[tuple[str, str, float, float]]:
    """(label, method, variance over the squared norm of the exact gradient, z of the bias)."""
    rows = []
    for name, entry in tqdm(BY_CLASS.items(), desc="distributions", disable=None):
        parameters = entry.points[entry.typical]
        truth = exact(entry, parameters)
        for method, (sampler, _, _) in METHODS.items():
            samples = sampler(entry, parameters, draws)
            for parameter, expected in truth.items():
                relative = samples[parameter].var(0).sum() / expected.square().sum()
                z = bias_z(samples[parameter], expected)
                rows.append((f"{name}: {parameter}", method, relative.item(), z))
    return rows


def draw(rows: list[tuple[str, str, float, float]], path: Path) -> None:
    labels = sorted({row[0] for row in rows}, reverse=True)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 0.17 * len(labels) + 1.4), sharey=True, width_ratios=(3, 1)
    )
    heights = {label: i for i, label in enumerate(labels)}
    for method, (_, color, marker) in METHODS.items():
        mine = [row for row in rows if row[1] == method]
        y = [heights[row[0]] for row in mine]
        style = {"color": color, "marker": marker, "linestyle": "", "markersize": 4, "label": method}
        left.plot([max(row[2], 1e-6) for row in mine], y, **style)
        right.plot([min(row[3], MOST) for row in mine], y, **style)
    left.set(xscale="log", xlabel="variance of one draw / squared norm of the gradient")
    left.set_yticks(range(len(labels)), labels, fontsize=6)
    left.set_ylim(-1, len(labels))
    right.axvspan(0, 4, color="0.92", zorder=0)
    right.set(xlim=(-0.4, MOST + 0.4), xlabel="bias, in standard errors")
    right.set_xticks([0, 4, MOST], ["0", "4", f"≥ {MOST}"])
    for axes in (left, right):
        axes.grid(axis="y", linewidth=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(loc="lower right", fontsize=8, framealpha=1)
    figure.tight_layout()
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    rows = measure(args.draws)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, args.out)
    print(f"Wrote {args.out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20_000, help="gradients of each kind")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/distributions.png")
    main(parser.parse_args())
