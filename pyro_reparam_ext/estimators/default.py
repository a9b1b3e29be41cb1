"""The estimator of a site for which none was configured."""

from __future__ import annotations

import pyro.distributions as dist
from pyro.distributions import TorchDistribution

from ..evaluation.unwrap import innermost
from .base import Estimator
from .leave_one_out import LeaveOneOut
from .pathwise import Pathwise
from .score_function import ScoreFunction

NOT_PATHWISE = (
    dist.OneHotCategoricalStraightThrough,
    dist.MixtureOfDiagNormals,
    dist.MixtureOfDiagNormalsSharedCovariance,
)
"""Distributions that declare ``has_rsample`` and whose sampler gives a biased gradient."""


def default_estimator(fn: TorchDistribution, num_particles: int) -> Estimator:
    """An unbiased estimator that needs no extra evaluation.

    :class:`Pathwise` where the sampler is reparameterised and right, else :class:`LeaveOneOut` where
    there are particles to take as baseline, else :class:`ScoreFunction`.
    """
    if fn.has_rsample and not isinstance(innermost(fn), NOT_PATHWISE):
        return Pathwise()
    return LeaveOneOut() if num_particles > 1 else ScoreFunction()
