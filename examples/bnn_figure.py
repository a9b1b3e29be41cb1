"""The picture of the example of Bayesian networks."""

from __future__ import annotations

import arviz as az
import matplotlib.pyplot as plt
import pandas as pd
from bnn_models import Problem
from matplotlib.figure import Figure
from style import BLACK, GREEN, ORANGE, SKY

STYLES = {
    "one draw": (BLACK, "o"),
    "eight draws": (ORANGE, "s"),
    "Flipout": (SKY, "^"),
    "local reparameterisation": (GREEN, "D"),
}


def draw(
    gradients: pd.DataFrame,
    curves: dict[str, pd.DataFrame],
    problem: Problem,
    predictions: dict[str, az.InferenceData],
) -> Figure:
    """Variance and bias by step, the ELBO by CPU seconds of training, and calibration."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    variance, bias, elbo, calibration = axes.flat
    for label, (colour, marker) in STYLES.items():
        style = {"color": colour, "marker": marker, "markersize": 5, "label": label}
        rows = gradients[gradients["method"] == label]
        height = rows["relative_variance"]
        errors = [height - rows["relative_variance_low"], rows["relative_variance_high"] - height]
        variance.errorbar(rows["step"], height, yerr=errors, capsize=3, **style)
        bias.plot(rows["step"], rows["bias_z"], **style)
        elbo.plot(curves[label]["seconds"], curves[label]["elbo"], **style)
        calibration.plot(*problem.calibration(predictions[label]), **style)
    variance.set(xscale="log", yscale="log", xlabel="step", ylabel="variance / |mean gradient|²")
    variance.set_title("Variance of the gradient, with 95 % intervals")
    top = max(6.0, 1.1 * gradients["bias_z"].max())
    bias.axhline(4, color="grey", linestyle=":")
    bias.text(gradients["step"].min(), 4.1, "a bias would be real beyond this", color="grey")
    bias.set(xscale="log", ylim=(-0.05 * top, top), xlabel="step", ylabel="largest z-score")
    bias.set_title("Bias of the gradient, in standard errors")
    last = pd.concat(curves.values())["elbo"]
    elbo.set(xlabel="CPU seconds of training", ylabel="nats per example")
    elbo.set_ylim(bottom=last.quantile(0.1))
    elbo.set_title("ELBO on the training set")
    across, up = problem.calibration_labels
    calibration.axline((0, 0), slope=1, color="grey", linestyle=":")
    calibration.set(xlim=(0, 1), ylim=(0, 1), xlabel=across, ylabel=up)
    calibration.set_title("Calibration on the test set")
    for part in (variance, bias):
        part.set_xticks(gradients["step"].unique(), gradients["step"].unique())
        part.minorticks_off()
    for part in axes.flat:
        part.grid(alpha=0.3)
    figure.legend(*variance.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"Four ways to draw the weights of a Bayesian network ({problem.name})")
    return figure
