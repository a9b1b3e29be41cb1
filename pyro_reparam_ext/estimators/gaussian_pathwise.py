"""The base of pathwise estimators that expand the costs around a normal variable's mean."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution

from .base import Estimator
from .pathwise import Pathwise


class GaussianPathwise(Pathwise):
    """A pathwise estimator of normal variables and vectors, with a second evaluation near the mean."""

    supported = (torch.distributions.Normal, torch.distributions.MultivariateNormal)
    needs_mean = True

    supports = Estimator.supports  # by its class, and not whatever has a pathwise sampler

    def remedy(self, fn: TorchDistribution) -> str:
        return f"{type(self).__name__} needs a Normal or a MultivariateNormal."

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return False

    def contributes(self, fn: TorchDistribution) -> bool:
        return True

    def evaluations(self, fn: TorchDistribution) -> int:
        return 2
