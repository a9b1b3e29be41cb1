r"""How far the marginals of weighted draws lie from those of the draws themselves.

With normalised weights :math:`w_s` of draws :math:`z_s`, and mean :math:`m` and standard deviation
:math:`\sigma` of the draws, the shift is :math:`(\sum_s w_s z_s - m) / \sigma` and the ratio that of
the weighted standard deviation to :math:`\sigma`. Their errors are those of the delta method. Of what
neither shows, as the gap between two modes, tells the largest distance of the two distribution
functions (Kolmogorov), with the error where it is reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Shift:
    """For each coordinate: the shift of the mean in the guide's sds, the log ratio of the sds, and the
    distance of the distribution functions.

    NaN where all draws are the same value.
    """

    mean: np.ndarray
    mean_error: np.ndarray
    log_ratio: np.ndarray
    log_ratio_error: np.ndarray
    cdf: np.ndarray
    cdf_error: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """The largest of the three, less two errors where that is positive."""
        mean = np.abs(self.mean) - 2 * self.mean_error
        ratio = np.abs(self.log_ratio) - 2 * self.log_ratio_error
        cdf = self.cdf - 2 * self.cdf_error
        return np.nan_to_num(np.maximum.reduce([mean, ratio, cdf, np.zeros_like(cdf)]))


def shift(values: np.ndarray, weights: np.ndarray) -> Shift:
    """The shift of each coordinate.

    Args:
        values: shape ``(draws, coordinates)``.
        weights: normalised, shape ``(draws, 1)``, or ``(draws, coordinates)`` where they differ.
    """
    draws = len(values)
    mean = values.mean(0)
    centred = values - mean
    sd = centred.std(0)
    constant = sd <= 1e-6 * np.abs(mean)
    u = np.where(constant, np.nan, centred / np.where(constant, 1.0, sd))
    moved = (weights * u).sum(0)
    away = u - moved
    variance = (weights * away**2).sum(0)
    influence = weights * away - u / draws
    of_ratio = (weights * (away**2 / variance - 1) - (u**2 - 1) / draws) / 2
    return Shift(
        moved,
        np.sqrt((influence**2).sum(0)),
        np.log(variance) / 2,
        np.sqrt((of_ratio**2).sum(0)),
        *_cdf_distance(values, weights),
    )


def _cdf_distance(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest distance of each coordinate's distribution functions, and its error."""
    draws = len(values)
    order = values.argsort(0, kind="stable")
    ranked = np.take_along_axis(values, order, 0)
    extra = np.take_along_axis(np.broadcast_to(weights, values.shape), order, 0) - 1 / draws
    last = np.concatenate([ranked[1:] > ranked[:-1], np.ones_like(ranked[:1], bool)])  # of equal values
    distance = np.where(last, extra.cumsum(0), 0.0)
    place = np.abs(distance).argmax(0)[None]
    below = values <= np.take_along_axis(ranked, place, 0)
    influence = weights * (below - (weights * below).sum(0)) - (below - below.mean(0)) / draws
    return np.abs(np.take_along_axis(distance, place, 0))[0], np.sqrt((influence**2).sum(0))
