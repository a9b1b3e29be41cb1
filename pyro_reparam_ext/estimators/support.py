"""Whether a site has one finite support, the same for all of its elements."""

from __future__ import annotations

import torch
from pyro.distributions import BetaBinomial, TorchDistribution

from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from .base import Estimator


def has_one_support(fn: TorchDistribution) -> bool:
    """Whether all elements have the same values, as far as their distribution is a known one."""
    low, high = _totals(fn)
    return low == high


def check_support(estimator: Estimator, name: str, fn: TorchDistribution) -> None:
    """Raises an :class:`~pyro_reparam_ext.EstimatorError` for counts out of different totals.

    The total is the size of the support, so it has to be known as a number: of a site on a GPU this
    waits for the device.
    """
    low, high = _totals(fn)
    if low != high:
        raise EstimatorError(
            f"site '{name}': {type(estimator).__name__} was given a "
            f"{type(innermost(fn)).__name__} whose "
            f"total_count is between {low} and {high}; expected one for all elements, which then have "
            f"the same values. {estimator.advice(fn)}"
        )


def _totals(fn: TorchDistribution) -> tuple[int, int]:
    """The smallest and the largest ``total_count``."""
    base = innermost(fn)
    if not isinstance(base, (torch.distributions.Binomial, BetaBinomial)):
        return 0, 0
    low, high = base.total_count.aminmax()
    return int(low), int(high)
