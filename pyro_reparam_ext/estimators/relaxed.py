"""What relaxed and straight-through estimators have in common."""

from __future__ import annotations

from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.relaxation import RELAXABLE, held_log_prob, linear_log_prob
from ..distributions.rules.wrappers import coordinates, innermost, log_prob_by
from ..temperature import Temperature, fault_of
from .base import Draw


def integer_remedy(fn: TorchDistribution) -> str:
    """What to do where integers can't be relaxed."""
    if not isinstance(innermost(fn), torch.distributions.Categorical):
        return ""
    return (
        "An integer Categorical has no values between its classes: use OneHotCategorical in guide and "
        "model."
    )


class LinearlyScored:
    """For estimators of a differentiable value that the discrete log probability scores, extended.

    A mixin, left of ``Estimator``. In the guide the density is held fixed in its parameters.
    """

    supported: ClassVar[tuple[type, ...]] = RELAXABLE
    differentiable: ClassVar[bool] = True

    def remedy(self, fn: TorchDistribution) -> str:
        return integer_remedy(fn)

    def log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: linear_log_prob(base, draw.value), fn)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: held_log_prob(base, draw.value), fn)


class Tempered:
    """For estimators with a temperature. A mixin, left of ``Estimator``."""

    temperature: Temperature

    def fault(self, fn: TorchDistribution) -> str | None:
        return fault_of(self.temperature, coordinates(fn).batch_shape)
