r"""How far the marginals of weighted draws lie from those of the draws themselves.

With normalised weights :math:`w_s` of draws :math:`z_s`, and mean :math:`m` and standard deviation
:math:`\sigma` of the draws, the shift is :math:`(\sum_s w_s z_s - m) / \sigma` and the ratio that of
the weighted standard deviation to :math:`\sigma`. Their errors are those of the delta method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Shift:
    """For each coordinate: the shift of the mean in the guide's sds, and the log ratio of the sds.

    NaN where all draws are the same value.
    """

    mean: np.ndarray
    mean_error: np.ndarray
    log_ratio: np.ndarray
    log_ratio_error: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """The larger of the two, less two errors where that is positive."""
        mean = np.abs(self.mean) - 2 * self.mean_error
        ratio = np.abs(self.log_ratio) - 2 * self.log_ratio_error
        return np.nan_to_num(np.maximum(np.maximum(mean, ratio), 0.0))


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
    )
