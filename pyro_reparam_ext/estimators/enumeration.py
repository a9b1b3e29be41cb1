"""The exact expectation over all values of a site, jointly with other enumerated sites."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions import BetaBinomial, TorchDistribution
from torch import Tensor

from ..distributions.conditional_bernoulli import ConditionalBernoulli
from ..distributions.rules.wrappers import coordinate_support, coordinates, num_coordinates
from ..errors import EstimatorError
from ..noise import NoiseSource
from .base import Estimator
from .protocol import Paper
from .support import check_support, has_one_support


@dataclass(frozen=True, eq=False)
class Enumeration(Estimator):
    r"""The expectation over the whole joint support, exactly: no sampling, no variance.

    .. math::
        \nabla_\phi \sum_z q_\phi(z)\, f(z)

    All enumerated sites are enumerated jointly, vector sites too; within a plate every element takes
    the same value at a time, so that ``D`` binary coordinates in a plate of 1,000 take ``2 ** D``
    evaluations, in parallel. Each site gets a dim of its own left of all others, as in Pyro's
    parallel enumeration, so that a cost carries only the dims that it depends on. The loss may be
    differentiated any number of times. Serves Bernoulli, categorical and one-hot sites, Binomial and
    BetaBinomial ones of one ``total_count``, and subsets (ConditionalBernoulli).

    Raises:
        EstimatorError: the joint support per plate element has more than 4,096 values, or a cost
            that depends on the site lies outside one of its plates.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators=pre.Enumeration())
    """

    unbiased = True
    paper = Paper(
        "Obermeyer, Bingham, Jankowiak, Chiu, Pradhan, Rush, Goodman",
        "Tensor Variable Elimination for Plated Factor Graphs",
        2019,
        "1902.03210",
    )
    supported = (
        torch.distributions.Bernoulli,
        torch.distributions.Categorical,
        torch.distributions.OneHotCategorical,
        torch.distributions.Binomial,
        BetaBinomial,
        ConditionalBernoulli,
    )
    enumerated = True
    max_support: ClassVar[int] = 4096

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return True

    def check(self, name: str, fn: TorchDistribution, source: NoiseSource) -> None:
        super().check(name, fn, source)
        check_support(self, name, fn)

    def serves(self, fn: TorchDistribution) -> bool:
        return self.supports(fn) and has_one_support(fn) and self.support_size(fn) <= self.max_support

    def evaluations(self, fn: TorchDistribution) -> int:
        return self.support_size(fn)

    def support_size(self, fn: TorchDistribution) -> int:
        """Number of joint values of all coordinates of one batch element."""
        base = coordinates(fn)
        known = isinstance(base, ConditionalBernoulli)  # there may be too many to write out
        size = base.support_size if known else len(coordinate_support(base))
        return int(size ** num_coordinates(fn))

    def support(self, name: str, fn: TorchDistribution, enumerated: int = 1) -> Tensor:
        """All joint values of the coordinates, shape ``(size,) + fn.event_shape``.

        ``enumerated`` is the joint support size of the sites that are enumerated already.
        """
        size = self.support_size(fn)
        if size * enumerated > self.max_support:
            raise EstimatorError(
                f"site '{name}': the joint support per plate element would have {size * enumerated:,} "
                f"values, expected at most {self.max_support:,}. {self.advice(fn)}"
            )
        values = coordinate_support(coordinates(fn))
        index = torch.tensor(list(itertools.product(range(len(values)), repeat=num_coordinates(fn))))
        return values[index.to(values.device)].reshape((size,) + fn.event_shape)
