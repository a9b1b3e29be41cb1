"""The rule that stops when the loss has stopped falling, by von Neumann's successive differences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EstimatorError
from .rule import Verdict

TREND = 2.0
"""Standard deviations by which the variance may be above that of neighbours."""


@dataclass(frozen=True)
class LossConverged:
    r"""A stopping rule that looks at nothing but the loss: it has stopped falling.

    In the last ``window`` steps

    - the variance of the loss is that of neighbours, by :func:`excess`: there is no trend;
    - the means of its two halves differ by less than the share ``rtol``.

    It is for networks, of whose parameters none is worth watching. A noisy loss hides a slow fall, and
    passes late: :class:`~pyro_reparam_ext.Converged` sees more. Parameters stay those of the last step.

    Args:
        window: steps that are looked at.
        rtol: relative change of the mean loss.

    Raises:
        EstimatorError: a window of less than 100 steps, or a tolerance that is not positive.

    Example:
        >>> noise = 0.1 * torch.randn(6000, generator=torch.Generator().manual_seed(0))
        >>> losses = 50 + 100 * torch.exp(-torch.arange(6000) / 300.0) + noise
        >>> rule = LossConverged()
        >>> rule.observe(losses[:1000], torch.zeros(100, 0)).stop
        False
        >>> rule.observe(losses, torch.zeros(600, 0)).stop
        True
    """

    window: int = 1000
    rtol: float = 3e-4

    def __post_init__(self) -> None:
        if not (self.window >= 100 and self.rtol > 0):
            raise EstimatorError(
                f"{self}: expected a window of 100 steps or more, and a positive tolerance."
            )

    def next_look(self, step: int) -> int:
        """After half a window."""
        return max(step + self.window // 2, self.window)

    def observe(self, losses: Tensor, iterates: Tensor) -> Verdict:
        """Whether the loss has stopped falling."""
        if len(losses) < self.window:
            return Verdict(False, f"the first window of {self.window:,} steps was yet to be seen")
        x = losses[-self.window :].double()
        trend = float(excess(x))
        first, second = x.tensor_split(2)
        change = float((second.mean() - first.mean()).abs() / x.mean().abs())
        reason = (
            f"the variance of the loss is {trend:.1f} standard deviations above that of neighbours "
            f"(asked for: < {TREND:g}), and its mean changed by {change:.2g} (< {self.rtol:g}), in the "
            f"last {self.window:,} steps"
        )
        progress = f"trend {trend:.1f}/{TREND:g}, change {change:.1g}/{self.rtol:g}"
        return Verdict(trend < TREND and change < self.rtol, reason, progress=progress)


def excess(x: Tensor) -> Tensor:
    r"""The variance that a series has beyond that of neighbours, in standard deviations.

    Von Neumann's ratio of half the mean squared successive difference to the variance,

    .. math:: \eta = \frac{\sum_i (x_{i+1} - x_i)^2}{2 \sum_i (x_i - \bar x)^2},

    is nearly one for independent values, with variance :math:`(n - 2) / (n^2 - 1)`. A trend adds to the
    variance alone. Returned is :math:`1 - \eta` over its standard deviation, nearly standard normal.

    Args:
        x: a series, of shape ``(n,)``.

    References:
        von Neumann, *Distribution of the Ratio of the Mean Square Successive Difference to the
        Variance*, 1941, https://doi.org/10.1214/aoms/1177731677

    Example:
        >>> noise = torch.randn(1000, generator=torch.Generator().manual_seed(0))
        >>> bool(excess(noise) < 3), bool(excess(noise + torch.linspace(2, 0, 1000)) > 3)
        (True, True)
    """
    n = len(x)
    squares = (x - x.mean()).square().sum()
    eta = x.diff().square().sum() / (2 * squares) if squares > 0 else torch.ones(())
    return (1 - eta) * ((n * n - 1) / (n - 2)) ** 0.5
