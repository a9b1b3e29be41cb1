"""The picture of the Poisson factors: training curves, and the factors as images."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from curves import draw_curves
from matplotlib.figure import Figure
from torch import Tensor


def draw(curves: dict[str, pd.DataFrame], rate: Tensor, factors: Tensor, base: Tensor) -> Figure:
    """The test ELBO along training, and below it what each factor adds to an image."""
    figure = plt.figure(figsize=(11, 7), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.7, 1))
    panels = above.subplots(1, 2, sharey=True)
    draw_curves(panels, curves, "test ELBO")
    above.suptitle("Poisson factors of digits, trained by each estimator")
    handles = panels[0].get_legend_handles_labels()
    above.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
    order = rate.argsort(descending=True).tolist()
    images = [(f"{rate[k]:.2g}", factors[k]) for k in order] + [("always", base)]
    columns = (len(images) + 1) // 2
    cells = below.subplots(2, columns).flatten()
    side = round(len(base) ** 0.5)
    for cell, (label, image) in zip(cells, images, strict=False):
        cell.imshow(image.view(side, side).numpy(), cmap="gray_r", vmin=0)
        cell.set_title(label, fontsize=9)
    for cell in cells:
        cell.axis("off")
    below.suptitle("What one count of each factor adds to an image, and its mean count in the prior")
    return figure
