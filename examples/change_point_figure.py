"""The picture of ``change_point.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from coal_mining import FIRST_YEAR, RATES, Law
from matplotlib.figure import Figure
from scipy import stats
from style import BLACK, GREY, PALETTE
from torch import Tensor


def draw(counts: Tensor, posterior: Law, laws: dict[str, Law]) -> Figure:
    """The counts; the laws of the year and of both rates; and a rate's mean given the year."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 7.5), layout="constrained")
    years = FIRST_YEAR + np.arange(len(counts))
    axes[0, 0].bar(years, counts.numpy(), color=GREY)
    means = {name: posterior.moments()["mean"][name] for name in ("switch", *RATES)}
    at = FIRST_YEAR + means["switch"]
    axes[0, 0].hlines(means["early"], years[0], at, color=BLACK)
    axes[0, 0].hlines(means["late"], at, years[-1], color=BLACK)
    axes[0, 0].set(xlabel="year", ylabel="disasters", title="Disasters, and posterior means")
    rates = np.linspace(0.5, 4.5, 400)
    shown = (posterior.probs > 1e-3).numpy()
    every = {"exact": posterior, **laws}
    for (label, law), colour in zip(every.items(), PALETTE, strict=False):
        line = {"color": colour, "label": label, "linewidth": 2.5 if label == "exact" else 1.3}
        axes[0, 1].plot(years[shown], law.probs.numpy()[shown], ".-", **line)
        density = sum(_mixture(law, name, rates) for name in RATES)
        axes[1, 0].plot(rates, density, **line)
        given = (law.shape["early"] / law.rate["early"]).numpy()
        axes[1, 1].plot(years[shown], given[shown], ".-", **line)
    axes[0, 1].set(xlabel="first year of the lower rate", title="Probability of the year")
    axes[1, 0].set(xlabel="disasters a year", ylim=(0, 5), title="Densities of the rates: late, early")
    axes[1, 1].set(
        xlabel="first year of the lower rate",
        ylim=(2.2, 3.6),
        title="Mean of the early rate, given the year",
    )
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _mixture(law: Law, name: str, rates: np.ndarray) -> np.ndarray:
    """The density of a rate, whatever the year."""
    shape, rate = law.shape[name].numpy(), law.rate[name].numpy()
    return stats.gamma.pdf(rates[:, None], shape, scale=1 / rate) @ law.probs.numpy()
