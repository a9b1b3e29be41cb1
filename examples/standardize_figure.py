"""The picture of ``standardize.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from style import BLUE, GREEN, ORANGE
from torch import Tensor
from transformations import TRANSFORMATIONS, Transformation


def picture(
    samples: dict[str, np.ndarray],
    measured: pd.DataFrame,
    vector: tuple[Tensor, Tensor, Tensor],
    draws: int,
) -> Figure:
    """Histograms of each law from its noise with the exact density, and all gradients' z-scores."""
    figure = plt.figure(figsize=(14, 9), layout="constrained")
    grid = figure.add_gridspec(3, 5, width_ratios=(1, 1, 1, 1, 1.2))
    places = [grid[0, :2], *(grid[i // 4, i % 4] for i in range(2, 10))]
    for place, case in zip(places, TRANSFORMATIONS, strict=True):
        _histogram(figure.add_subplot(place), case, samples[case.name])
    _ellipse(figure.add_subplot(grid[2, 2:4]), vector)
    _scores(figure.add_subplot(grid[:, 4]), measured, draws)
    return figure


def _histogram(ax: Axes, case: Transformation, x: np.ndarray) -> None:
    low, high = np.quantile(x, (0.001, 0.999))
    bins = np.linspace(low, high, 41)
    weights = np.full(len(x), 1 / (len(x) * (bins[1] - bins[0])))
    ax.hist(x, bins, weights=weights, color=BLUE, alpha=0.45, label="from noise")
    if case.name == "Normal(10, 5)":
        direct = torch.distributions.Normal(10.0, 5.0).sample((len(x),)).numpy()
        line = {"histtype": "step", "color": ORANGE, "linewidth": 2, "label": "sampled as N(10, 5)"}
        ax.hist(direct, bins, weights=weights, **line)
    points = torch.linspace(low, high, 300, dtype=torch.double)
    parameters = [torch.tensor(v, dtype=torch.double) for v in case.at.values()]
    density = case.log_density(points, *parameters).exp()
    ax.plot(points, density, color="black", linewidth=1, label="exact density")
    if case.name == "Normal(10, 5)":
        ax.legend(fontsize=9)
        ax.set_ylim(top=1.4 * density.max().item())
    ax.set_title(f"{case.name}\n{case.formula.split(':')[0]}", fontsize=9)
    ax.set_yticks([])


def _ellipse(ax: Axes, vector: tuple[Tensor, Tensor, Tensor]) -> None:
    mu, covariance, _ = vector
    tril = torch.linalg.cholesky(covariance)
    x = mu + torch.randn(3000, 2, dtype=torch.double) @ tril.T
    ax.plot(x[:, 0], x[:, 1], ".", color=BLUE, markersize=2, alpha=0.4)
    angle = torch.linspace(0, 2 * np.pi, 200, dtype=torch.double)
    for radius in (1, 2, 3):
        first, second = mu.unsqueeze(-1) + radius * tril @ torch.stack([angle.cos(), angle.sin()])
        ax.plot(first, second, color="black", linewidth=1)
    ax.set_title(
        "N(mu, Sigma), 2 dims: mu + L z\nwith exact contours at 1, 2 and 3 deviations", fontsize=9
    )
    ax.set(xlabel="first coordinate", ylabel="second", aspect="equal")


def _scores(ax: Axes, measured: pd.DataFrame, draws: int) -> None:
    labels = [
        f"{row['law']}: {row['d/d'].split(' ')[0]}" + " (Price)" * ("Price" in row["transformation"])
        for _, row in measured.iterrows()
    ]
    in_pyro = measured["law"].str.contains("Pyro").to_numpy()
    places = np.arange(len(measured))
    for chosen, colour, label in ((~in_pyro, BLUE, "from noise"), (in_pyro, GREEN, "reparameteriser")):
        ax.plot(measured["z"].astype(float)[chosen], places[chosen], "o", color=colour, label=label)
    ax.axvspan(-2, 2, color="grey", alpha=0.15)
    ax.axvline(0, color="black", linewidth=0.8)
    limit = max(4.0, measured["z"].abs().max() + 0.5)
    ax.set(xlim=(-limit, limit), ylim=(len(measured) - 0.5, -2.5))
    ax.set_xlabel("(measured - exact) / standard error")
    ax.set_title(f"gradients by {draws:,} draws", fontsize=10)
    ax.set_yticks(places, labels, fontsize=8)
    ax.yaxis.tick_right()
    ax.legend(loc="upper center", ncols=2, fontsize=8, handletextpad=0, columnspacing=1)
