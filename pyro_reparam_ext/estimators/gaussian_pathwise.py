"""The base of pathwise estimators that expand the costs around a normal variable's mean."""

from __future__ import annotations

import torch
from pyro.distributions import Delta, TorchDistribution

from ..distributions.rules.wrappers import innermost
from .pathwise import Pathwise


class GaussianPathwise(Pathwise):
    """A pathwise estimator of normal variables and vectors, with a second evaluation near the mean."""

    supported = (torch.distributions.Normal, torch.distributions.MultivariateNormal)
    needs_mean = True

    def supports(self, fn: TorchDistribution) -> bool:
        return isinstance(innermost(fn), self.supported) and not isinstance(innermost(fn), Delta)

    def remedy(self, fn: TorchDistribution) -> str:
        return f"{type(self).__name__} needs a Normal or a MultivariateNormal."

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return False

    def contributes(self, fn: TorchDistribution) -> bool:
        return True

    def evaluations(self, fn: TorchDistribution) -> int:
        return 2
