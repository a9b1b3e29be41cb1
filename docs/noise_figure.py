"""Draws images/noise.png from the examples of noise.md.

Run from the root of the repository: ``python docs/noise_figure.py``.
"""

from __future__ import annotations

from doctest import DocTestParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
LABELS = ("score function", "DisARM")


def main() -> None:
    page: dict[str, Any] = {}
    for example in DocTestParser().get_examples((HERE / "noise.md").read_text()):
        exec(example.source, page)
    figure, axes = plt.subplots(len(LABELS), figsize=(8, 4), sharex=True, layout="constrained")
    for label, axis in zip(LABELS, axes, strict=True):
        page["study"].plot_attribution(label, axes=axis)
        axis.set_ylabel(label)
    axes[0].set_xlabel("")
    axes[1].get_legend().remove()
    figure.savefig(HERE / "images" / "noise.png", dpi=150)


if __name__ == "__main__":
    main()
