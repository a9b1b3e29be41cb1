"""What the pictures of the examples share: a palette, and the line that belongs to an estimator."""

from __future__ import annotations

import pandas as pd

BLACK, GREY = "#000000", "#666666"
ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
VERMILION, PINK = "#d55e00", "#cc79a7"
"""The palette of Okabe and Ito, which the colour-blind can tell apart."""

PALETTE = (BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PINK)

SIGNIFICANT = 4.0
"""A bias whose corrected z-score is below this can't be told from zero."""


def told_from_zero(rows: pd.DataFrame) -> pd.Series:
    """Whether each row of a study's summary has a bias that is more than the noise of its draws."""
    return (rows["bias_z"] >= SIGNIFICANT) & (rows["relative_bias"] > 0)


def styles(unbiased: pd.Series) -> dict[str, dict[str, str]]:
    """How each label is drawn: biased ones dashed, with diamonds."""
    styled, count = {}, {True: 0, False: 0}
    for label, is_unbiased in unbiased.items():
        line, marker = ("-", "o") if is_unbiased else ("--", "D")
        colour = PALETTE[count[bool(is_unbiased)] % len(PALETTE)]
        styled[label] = {"color": colour, "linestyle": line, "marker": marker}
        count[bool(is_unbiased)] += 1
    return styled
