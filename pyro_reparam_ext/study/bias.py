"""How large a bias is, and how sure it is."""

from __future__ import annotations

import math

import numpy as np

from .moments import Estimate, Moments, Reference

SIGNIFICANT = 4.0
"""The z-score beyond which a bias is taken as real: unbiased draws pass it in 6 of 100,000 studies."""
REAL = -math.log(math.erfc(SIGNIFICANT / math.sqrt(2)))
"""The same as ``log(1 / p)``."""
SURE = 690.0
"""The largest ``log(1 / p)`` that is told apart; z = 37."""


def bias(moments: Moments, reference: Reference, names: list[str]) -> tuple[float, float]:
    """Norm of the bias, without what sampling error adds to it, and its corrected z-score.

    :meth:`~pyro_reparam_ext.study.result.GradientStudy.summary` says how the z-score is made. It is at
    most 37, what double precision can tell; infinite where two exact gradients differ; NaN where
    nothing can be said.
    """
    mine = moments.coordinates(names)
    difference = mine.mean - reference.mean
    error = mine.error + reference.error
    size = math.sqrt(max(float(np.square(difference).sum() - error.sum()), 0.0))
    tests = [_known(*surprise) for surprise in _surprises(moments, reference, names)]
    told = [y for y in tests if not math.isnan(y)]
    return size, _z_score(max(told) - math.log(len(told))) if told else math.nan


def is_doubtful(moments: Moments, reference: Reference, names: list[str]) -> bool:
    """Whether a bias is seen, or would be if draws that hardly move had missed nothing."""
    found = [max(surprise) for surprise in _surprises(moments, reference, names)]
    return any(y - math.log(len(found)) > REAL for y in found)


def _known(told: float, untold: float) -> float:
    if untold <= REAL:  # not beyond the other's error
        return max(told, untold)
    return told if told > REAL else math.nan


def _surprises(moments: Moments, reference: Reference, names: list[str]) -> list[tuple[float, float]]:
    """Those of the coordinates, and of the gradient along its own direction."""
    degrees = min(math.inf if moments.deterministic else max(moments.count - 1, 1), reference.degrees)
    mine = moments.coordinates(names)
    tests = [_surprise(mine, reference.coordinates, reference.norm, degrees)]
    groups = moments.groups(names)
    if groups is not None and reference.groups is not None:
        norm = float(np.abs(reference.groups.mean).max())
        tests.append(_surprise(groups, reference.groups, norm, degrees))
    return tests


def _surprise(mine: Estimate, other: Estimate, norm: float, degrees: float) -> tuple[float, float]:
    """``log(1 / p)`` of what differs most, corrected for their number; NaN if nothing is known.

    Of the coordinates whose draws tell how far they reach, and of the others.
    """
    difference = np.abs(mine.mean - other.mean)
    error = np.sqrt(mine.error + other.error)
    if not (np.isfinite(difference).all() and np.isfinite(error).all()):
        return math.nan, math.nan
    unknown = np.isnan(mine.reach) | np.isnan(other.reach)
    reach = np.nan_to_num(np.fmax(mine.reach, other.reach))
    equal = (difference <= 1e-5 * (np.abs(other.mean) + norm + 1e-30)) & (error <= 1e-5 * norm)

    def most(which: np.ndarray) -> float:
        y = _log_odds(difference[which], error[which], reach[which], degrees)
        return y - math.log(len(difference))

    return most(~equal & ~unknown), most(~equal & unknown)


def _log_odds(difference: np.ndarray, error: np.ndarray, reach: np.ndarray, degrees: float) -> float:
    """The largest ``log(1 / p)`` at which any difference is beyond its bound."""
    from scipy.special import ndtr, stdtr

    if ((difference > 0) & (error == 0) & (reach == 0)).any():
        return math.inf

    def log_odds(quantile: float) -> float:
        # Not by scipy.stats, whose checks take most of the time of a short study.
        p = float(stdtr(degrees, -quantile) if degrees < math.inf else ndtr(-quantile))
        return -math.log(2 * p) if p > 0 else math.inf

    low, high = 0.0, 1e9
    for _ in range(80):
        middle = math.sqrt(max(low, 1e-3) * high)
        y = log_odds(middle)
        # Beyond what double precision holds y is infinite, and no difference is.
        beyond = y < SURE and (difference > middle * error + y * reach).any()
        low, high = (middle, high) if beyond else (low, middle)
    return log_odds(low) if low else 0.0


def _z_score(y: float) -> float:
    """The two-sided normal z-score of ``p = exp(-y)``."""
    from scipy.special import ndtri_exp

    return 0.0 if y <= 0 else y if y == math.inf else -float(ndtri_exp(-y - math.log(2)))
