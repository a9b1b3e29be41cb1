"""The score function with the mean of the other particles as baseline."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..distributions.rules.wrappers import num_coordinate_dims, sum_rightmost
from .base import Estimator
from .baselines import Shrinkage, mean_elsewhere
from .protocol import Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class LeaveOneOut(Estimator):
    r"""The score function with leave-one-out baselines over the ELBO's particles (RLOO).

    .. math::
        \frac1P \sum_p \Big(f(z_p) - \frac{1}{P-1}\sum_{p' \ne p} f(z_{p'})\Big)
        \nabla_\phi \log q_\phi(z_p)

    Serves every distribution with a ``log_prob``. One evaluation of the program per particle.

    Few particles know the mean of the costs badly, and their noise goes into the baseline. With
    ``shrinkage`` it is moved towards what the same particles say of the other data, as the mean of one
    group is by James and Stein: with :math:`m_{bp}` the mean over the particles other than :math:`p` of
    the cost of element :math:`b` of :math:`B` in the plates of the site,

    .. math::
        (1 - \lambda)\, m_{bp} + \frac{\lambda}{B - 1} \sum_{b' \ne b} m_{b'p}, \qquad
        \lambda = \frac{\text{noise of } m_{bp}}
                       {\text{noise of } m_{bp} + \text{distance between elements}}.

    The best :math:`\lambda` is that of least squares, which is fitted to the costs of *past* steps (a
    buffer of the ELBO, 0 in the first one). So neither it nor the means move with what particle
    :math:`p` has drawn, and the gradient stays unbiased whatever the program is: the paper fits it to
    other data of the same step, which takes that no cost of theirs depends on this one's draw. Outside
    of plates there is nothing to move to.

    It pays where particles are few, and the costs of the data differ by less than by their noise. With
    two, three, four and eight particles the variance is .40, .57, .66 and .82 of that without in a
    plate of 30 elements alike; .66, .82, .88 and .98 in a Poisson factor model before training; and for
    images, each with a likelihood of its own, .96 with two and the same with more.

    Args:
        shrinkage: whether to move the baseline so.

    Raises:
        EstimatorError: the ELBO has one particle only.

    References:
        Kool, van Hoof, Welling, 2019, Buy 4 REINFORCE Samples, Get a Baseline for Free!,
        https://openreview.net/forum?id=r1lgTGL5DE; Zeng, Zhou, Arora, Zanette, 2025, Shrinking the
        Variance: Shrinkage Baselines for Reinforcement Learning with Verifiable Rewards,
        https://arxiv.org/abs/2511.03710

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators=pre.LeaveOneOut(), num_particles=4)
        >>> few = pre.TraceEstimator_ELBO(pre.LeaveOneOut(shrinkage=True), num_particles=2)
    """

    shrinkage: bool = False

    unbiased = True
    paper = Paper("Kool, van Hoof, Welling", "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019)
    uses_cost = True
    min_particles = 2
    iid_particles = True

    def __repr__(self) -> str:
        return f"LeaveOneOut({'shrinkage=True' if self.shrinkage else ''})"

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        baseline = self._baseline(evaluations)
        site = evaluations.site
        ordinary = total = site.log_prob * (evaluations.cost - baseline)
        for number, branch in enumerate(evaluations.branches):  # of other parts of a combination
            if branch.weights is not None:
                values = branch.values(0, branch.count).detach()
                # Without the masks of the guide: a masked value is sampled all the same.
                scores = self.log_prob(site.base, Draw(values))
                log_prob = sum_rightmost(scores, num_coordinate_dims(site.fn))
                terms = log_prob * (evaluations.costs_of(number) - baseline)
                total = total + (branch.weights * (terms - ordinary)).sum(0)
        return total

    def new_state(self, site: Site) -> nn.Module | None:
        return Shrinkage(site.log_prob) if self.shrinkage else None

    def update(self, evaluations: Evaluations) -> None:
        elsewhere = mean_elsewhere(evaluations)
        if self.shrinkage and elsewhere is not None:
            assert evaluations.others is not None
            assert isinstance(evaluations.site.state, Shrinkage)
            evaluations.site.state.update(evaluations.cost, evaluations.others, elsewhere)

    def _baseline(self, evaluations: Evaluations) -> Tensor | float:
        """The mean of the other particles, moved to that of the other data where that is asked for."""
        others = evaluations.others
        if others is None:  # in a loop over particles of dynamic structure, a site may be in this alone
            return 0.0
        elsewhere = mean_elsewhere(evaluations) if self.shrinkage else None
        if elsewhere is None:
            return others
        assert isinstance(evaluations.site.state, Shrinkage)
        return others + evaluations.site.state() * (elsewhere - others)
