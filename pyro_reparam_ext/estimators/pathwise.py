"""The pathwise estimator: differentiate through the sampler."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import is_identically_zero
from torch import Tensor

from ..distributions import StraightThroughBernoulli, StraightThroughOneHotCategorical
from ..evaluation.coupling import couple
from ..evaluation.unwrap import (
    coordinates,
    innermost,
    log_prob_by,
    num_coordinate_dims,
    sum_rightmost,
)
from .base import Draw, Estimator, Evaluations, Paper, Site

NOT_PATHWISE = (
    dist.OneHotCategoricalStraightThrough,
    dist.MixtureOfDiagNormals,
    dist.MixtureOfDiagNormalsSharedCovariance,
    StraightThroughBernoulli,
    StraightThroughOneHotCategorical,
)
"""Distributions that declare ``has_rsample`` and whose sampler gives a biased gradient."""
HARD_BUT_RELAXED = (
    dist.RelaxedBernoulliStraightThrough,
    dist.RelaxedOneHotCategoricalStraightThrough,
)
"""Biased as well, but their density is not that of the hard values: no score function serves them."""


def is_biased_sampler(fn: TorchDistribution) -> bool:
    """Whether the gradient of ``fn.rsample`` is known to be biased."""
    base = innermost(fn)
    return isinstance(base, NOT_PATHWISE) or getattr(base, "straight_through", False)


def has_biased_gradient(fn: TorchDistribution) -> bool:
    """The same, or another law scores its values than the one that they are samples of."""
    base = innermost(fn)
    mismatched = isinstance(base, HARD_BUT_RELAXED) or getattr(base, "holds_score", False)
    return is_biased_sampler(fn) or mismatched


@dataclass(frozen=True, eq=False)
class Pathwise(Estimator):
    r"""The reparameterisation trick: the sample is a differentiable function of noise.

    .. math::
        z = g(\epsilon, \phi),\qquad
        \nabla_\phi E_{q_\phi}[f(z)] = E_\epsilon\big[\nabla_\phi f(g(\epsilon, \phi))\big]

    Serves every distribution with ``has_rsample``. One evaluation of the program. For rejection
    samplers whose sampler is only partly reparameterised it adds the score term of Naesseth et al.
    (arXiv 1610.05683).

    Unbiased if the cost is continuous in the value: where the program jumps, as by
    ``torch.where(z > 0, ...)``, a branch or ``round``, the derivative misses the jump. Use
    :class:`ScoreFunction` or :class:`LeaveOneOut` there; :func:`gradient_study` finds such sites.

    Raises:
        EstimatorError: the distribution has no ``rsample``.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def guide():
        ...     loc = pyro.param("loc", torch.tensor(0.0))
        ...     pyro.sample("z", dist.Normal(loc, 1.0), infer={"estimator": pre.Pathwise()})
    """

    unbiased = True
    condition = "the cost is continuous in the value"
    paper = Paper("Kingma, Welling", "Auto-Encoding Variational Bayes", 2013, "1312.6114")
    differentiable = True

    def supports(self, fn: TorchDistribution) -> bool:
        return bool(fn.has_rsample)

    def remedy(self, fn: TorchDistribution) -> str:
        return "Pathwise needs a distribution with has_rsample."

    def is_unbiased_at(self, fn: TorchDistribution) -> bool:
        return not has_biased_gradient(fn)

    def draw(self, fn: TorchDistribution) -> Draw:
        return Draw(fn.rsample())

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        # Coupled as the discrete law that it is, a straight-through value would lose its gradient.
        return Draw(fn.rsample() if is_biased_sampler(fn) else couple(site.fn, site.value, fn))

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        """By the entropy term of a distribution that has one of its own."""
        if not self.has_score(fn):
            return self.log_prob(fn, draw)

        def score(base: TorchDistribution) -> Tensor:
            parts = base.score_parts(draw.value)
            whole = is_identically_zero(parts.score_function)
            return parts.entropy_term if whole else parts.log_prob

        return log_prob_by(score, fn)

    def has_score(self, fn: TorchDistribution) -> bool:
        """Whether the sampler leaves a part of the gradient to a score term."""
        return type(innermost(fn)).score_parts is not TorchDistributionMixin.score_parts

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        site = evaluations.site
        if not self.has_score(site.fn):
            return None
        score = coordinates(site.fn).score_parts(site.value).score_function
        if is_identically_zero(score):
            return None
        return sum_rightmost(score, num_coordinate_dims(site.fn)) * evaluations.cost
