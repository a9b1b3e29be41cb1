"""The score function with the mean of the other particles as baseline."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..distributions.rules.wrappers import num_coordinate_dims, sum_rightmost
from .base import Estimator
from .protocol import Draw, Evaluations, Paper


@dataclass(frozen=True, eq=False)
class LeaveOneOut(Estimator):
    r"""The score function with leave-one-out baselines over the ELBO's particles (RLOO).

    .. math::
        \frac1P \sum_p \Big(f(z_p) - \frac{1}{P-1}\sum_{p' \ne p} f(z_{p'})\Big)
        \nabla_\phi \log q_\phi(z_p)

    Serves every distribution with a ``log_prob``. One evaluation of the program per particle.

    Raises:
        EstimatorError: the ELBO has one particle only.

    References:
        Kool, van Hoof, Welling, 2019, Buy 4 REINFORCE Samples, Get a Baseline for Free!,
        https://openreview.net/forum?id=r1lgTGL5DE

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators=pre.LeaveOneOut(), num_particles=4)
    """

    unbiased = True
    paper = Paper("Kool, van Hoof, Welling", "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019)
    uses_cost = True
    min_particles = 2
    iid_particles = True

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        # In a loop over particles of dynamic structure, a site may occur in this particle alone.
        others = 0.0 if evaluations.others is None else evaluations.others
        site = evaluations.site
        ordinary = total = site.log_prob * (evaluations.cost - others)
        for number, branch in enumerate(evaluations.branches):  # of other parts of a combination
            if branch.weights is not None:
                values = branch.values(0, branch.count).detach()
                # Without the masks of the guide: a masked value is sampled all the same.
                scores = self.log_prob(site.base, Draw(values))
                log_prob = sum_rightmost(scores, num_coordinate_dims(site.fn))
                terms = log_prob * (evaluations.costs_of(number) - others)
                total = total + (branch.weights * (terms - ordinary)).sum(0)
        return total
