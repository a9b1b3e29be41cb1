"""The score function with the mean of the other particles as baseline."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..errors import EstimatorError
from .base import Estimator, Evaluations, Paper


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

    def check(self, name: str, fn: TorchDistribution, num_particles: int) -> None:
        super().check(name, fn, num_particles)
        if num_particles < 2:
            raise EstimatorError(
                f"site '{name}': LeaveOneOut needs other particles for its baseline, was given "
                f"num_particles={num_particles}, expected at least 2. Set num_particles=2 in the "
                f"ELBO for LeaveOneOut. Else: {self.advice(fn)}"
            )

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        return evaluations.site.log_prob * (evaluations.cost - _mean_of_others(evaluations))


def _mean_of_others(evaluations: Evaluations) -> Tensor | float:
    cost, dim = evaluations.cost, evaluations.particle_dim
    if dim is not None:
        return (cost.sum(dim, keepdim=True) - cost) / (cost.shape[dim] - 1)
    # In a loop over particles of dynamic structure, a site may occur in this particle alone.
    return 0.0 if evaluations.peers is None else evaluations.peers.mean(0)
