"""The estimator of a site for which none was configured."""

from __future__ import annotations

from pyro.distributions import Delta, TorchDistribution

from ..distributions.rules.known_defects import is_biased_sampler
from ..distributions.rules.wrappers import innermost
from ..noise import NoiseSource
from .base import Estimator
from .leave_one_out import LeaveOneOut
from .pathwise import Pathwise
from .score_function import ScoreFunction

_PATHWISE, _LEAVE_ONE_OUT, _SCORE_FUNCTION = Pathwise(), LeaveOneOut(), ScoreFunction("ema")


def default_estimator(fn: TorchDistribution, source: NoiseSource) -> Estimator:
    """An unbiased estimator that needs no extra evaluation.

    :class:`Pathwise` where the sampler is reparameterised and right, else :class:`LeaveOneOut` where
    there are independent particles to take as baseline, else :class:`ScoreFunction`, less an average of
    past costs. A Delta has no score: :class:`Pathwise`, though biased where its value is a
    straight-through one.
    """
    if (fn.has_rsample and not is_biased_sampler(fn)) or isinstance(innermost(fn), Delta):
        return _PATHWISE
    independent = source.iid and source.num_particles >= LeaveOneOut.min_particles
    return _LEAVE_ONE_OUT if independent else _SCORE_FUNCTION
