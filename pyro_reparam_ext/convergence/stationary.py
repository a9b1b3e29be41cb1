"""Whether iterates are stationary, and how well their mean is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

BATCHES = 50
"""Batches that a window is cut into: fewer where it has fewer rows."""
ROUNDING = 1e-6
"""Share of its largest size by which a coordinate may move and still be called constant."""


def most_stationary(iterates: Tensor, firsts: Sequence[int]) -> tuple[int, Tensor]:
    r"""The row from which on iterates look most stationary, among ``firsts``, and their R-hat.

    What begins at each of these rows is cut into two halves, and

    .. math:: \hat R = \sqrt{\frac{n - 1}{n} + \frac{B}{n W}}

    compares the variance :math:`W` within halves of :math:`n` rows with that of their means,
    :math:`B / n`. The row is the one whose largest R-hat over coordinates is the smallest. A coordinate
    that moves by no more than rounding agrees with itself: its R-hat counts as zero.

    Args:
        iterates: of shape ``(rows, coordinates)``.
        firsts: some rows, each with at least three after it.

    Returns:
        A row, and R-hat, of shape ``(coordinates,)``.

    References:
        Dhaka, Catalina, Andersen, Magnusson, Huggins and Vehtari, *Robust, Accurate Stochastic
        Optimization for Variational Inference*, 2020, https://arxiv.org/abs/2009.00666

    Example:
        >>> noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        >>> fall = torch.linspace(9, -9, 400).clamp(min=0)[:, None]
        >>> first, rhat = most_stationary(fall + noise, firsts=[50, 250, 350])
        >>> first, bool((rhat < 1.1).all())
        (250, True)
    """
    count = min(BATCHES, *(len(iterates) - first for first in firsts))
    windows = torch.stack([_batch_means(iterates[first:], count) for first in firsts], 1)
    rhat = split_gelman_rubin(windows[None], chain_dim=0, sample_dim=1)
    rhat = rhat.masked_fill(_constant(windows.std(0), iterates), 0.0)
    best = int(rhat.amax(-1).argmin())
    return firsts[best], rhat[best]


def typical_rhat(coordinates: int) -> float:
    r"""The median of the largest R-hat of stationary iterates, of so many independent coordinates.

    Between halves of :math:`n` batches that are told apart by :math:`z` standard errors,

    .. math:: \hat R^2 = 1 + \frac{z^2 - 1}{n}.
    """
    p = 0.5 ** (1 / coordinates)
    z = float(torch.special.ndtri(torch.tensor((1 + p) / 2, dtype=torch.float64)))
    return (1 + (z * z - 1) / (BATCHES / 2)) ** 0.5


def shift_of_halves(losses: Tensor) -> tuple[float, float]:
    """By how much the means of the two halves of some losses differ, and the standard error of that."""
    halves = _batch_means(losses[:, None], min(BATCHES, len(losses))).squeeze(-1).chunk(2)
    error = sum(half.var() / len(half) for half in halves) ** 0.5
    return float((halves[0].mean() - halves[1].mean()).abs()), float(error)


@dataclass(frozen=True, eq=False)
class Average:
    """The mean of stationary iterates, and how well it is known.

    Args:
        mean: of shape ``(coordinates,)``.
        spread: standard deviation of the iterates.
        ess: their effective sample size, as that of a Markov chain; infinite for a constant.
    """

    mean: Tensor
    spread: Tensor
    ess: Tensor

    @property
    def error(self) -> Tensor:
        """Monte Carlo standard error of the mean."""
        return self.spread / self.ess.sqrt()


def average(iterates: Tensor) -> Average:
    """The mean of ``iterates``, of shape ``(rows, coordinates)``."""
    means = _batch_means(iterates, min(BATCHES, len(iterates)))
    spread = iterates.double().std(0)
    moves = ~_constant(spread, iterates)
    ess = torch.full_like(spread, torch.inf)
    if moves.any():
        of_means = effective_sample_size(means[None, :, moves], chain_dim=0, sample_dim=1)
        ess[moves] = of_means * (spread / means.std(0))[moves].square()
    return Average(mean=means.mean(0), spread=spread.masked_fill(~moves, 0.0), ess=ess)


def _constant(spread: Tensor, iterates: Tensor) -> Tensor:
    return spread <= ROUNDING * iterates.abs().amax(0)


def _batch_means(rows: Tensor, count: int) -> Tensor:
    """The means of so many batches of consecutive rows, in double precision.

    Rows that fill no batch are left out, in the beginning.
    """
    size = len(rows) // count
    return rows[len(rows) - size * count :].double().unflatten(0, (count, size)).mean(1)
