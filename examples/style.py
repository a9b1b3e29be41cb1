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


def told_from_zero(rows: pd.DataFrame, size: str = "relative_bias") -> pd.Series:
    """Whether each row of a study's summary has a bias that is more than the noise of its draws."""
    return (rows["bias_z"] >= SIGNIFICANT) & (rows[size] > 0)


def styles(unbiased: pd.Series) -> dict[str, dict[str, str]]:
    """How each label is drawn: biased ones dashed. Colours that come again have another marker."""
    styled, count = {}, {True: 0, False: 0}
    for label, is_unbiased in unbiased.items():
        line, markers = ("-", "os^") if is_unbiased else ("--", "DPX")
        turn, place = divmod(count[bool(is_unbiased)], len(PALETTE))
        colour, marker = PALETTE[place], markers[turn % len(markers)]
        styled[label] = {"color": colour, "linestyle": line, "marker": marker}
        count[bool(is_unbiased)] += 1
    return styled
