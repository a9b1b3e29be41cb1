"""That the mean of draws is the exact one: p-values, and words for what is wrong."""

from __future__ import annotations

import math

from torch import Tensor

FALSE_ALARM_RATE = 1e-6
"""How often a check may fail although everything is right."""
SURE = -600.0
"""The least ``log(p)`` that is told apart."""
EXACT = 1e-5
"""The relative error of a coordinate without variance."""

FACTORS = (-2.0, -0.5, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.5, 2.0, 3.0, 4.0)
"""Factors that are forgotten."""


def p_value(draws: Tensor, exact: Tensor) -> float:
    """That draws, shape ``(draws, coordinates)``, have the mean ``exact``, in all coordinates.

    A mean may be off by its standard error, as in a t-test, and by what draws as large as the largest
    of any coordinate, but missed, would have moved it: a coordinate may hardly vary, at a wrong value,
    where no draw hit a class.
    """
    from scipy import stats

    count, mean = len(draws), draws.mean(0)
    difference = (mean - exact).abs() - EXACT * exact.abs().clamp(min=1e-3)
    error = draws.std(0) / count**0.5
    reach = float((draws - mean).abs().max()) / count

    def is_beyond(log_p: float) -> bool:
        quantile = float(stats.t.isf(math.exp(log_p) / 2, count - 1))
        return bool((difference > quantile * error - log_p * reach).any())

    low, high = SURE, 0.0
    if is_beyond(low):
        return 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return min(1.0, math.exp(high) * len(exact))


def likeness(draws: Tensor, exact: Tensor) -> str:
    """A sentence on what the mean of biased draws is in terms of the exact one."""
    mean, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    factor = float(mean @ exact / (exact @ exact).clamp(min=1e-12))
    rest = (mean - factor * exact).norm()
    is_multiple = len(exact) > 1 and rest <= 4 * error.norm() + EXACT * exact.norm()
    if is_multiple and abs(factor + 1) < 0.1:
        return "It is the exact one with the wrong sign."
    if is_multiple and any(abs(factor / usual - 1) < 0.05 for usual in FACTORS):
        return f"It is {factor:.2f} times the exact one: look for a missing factor."
    if is_multiple and abs(factor - 1) > 0.02:
        return (
            f"It is {factor:.2f} times the exact one: look for a wrong factor, or for a coefficient "
            f"that carries a gradient (a missing .detach())."
        )
    return (
        "It is no simple multiple of the exact one: look for a coefficient that carries a gradient (a "
        "missing .detach()), for noise that is not that of the value, and for coordinates that are not "
        "summed."
    )
