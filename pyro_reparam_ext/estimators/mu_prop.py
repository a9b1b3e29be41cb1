"""MuProp: the score function with a linear control variate at the mean field."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.relaxation import RELAXABLE, probabilities
from .base import Estimator
from .control_variates import dot, estimate_in_logits, slope_in_logits
from .protocol import Branch, Evaluations, Paper, Site
from .relaxed import AtMeans, integer_remedy


@dataclass(frozen=True, eq=False)
class MuProp(Estimator):
    r"""The score function with the costs' first-order Taylor expansion at the mean as control variate.

    With :math:`\mu` the mean of the site,

    .. math::
        \big(f(b) - f(\mu) - \nabla f(\mu)^\top (b - \mu)\big)\,\nabla_\phi \log q_\phi(b)
        + \nabla f(\mu)^\top \nabla_\phi \mu

    The second term is the mean of what the first one lacks, so that the gradient is unbiased for any
    cost. Bernoulli and one-hot sites downstream of this one are at their means, too, where the costs
    are expanded (the mean-field pass of the paper). What :math:`f(\mu)` is off from the mean of the
    costs stays in the signal, for which the paper adds baselines: where the costs are far from linear,
    :class:`LeaveOneOut` has less variance.

    Serves Bernoulli and one-hot sites; two evaluations.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, or the program makes a Python
            number of its value, or of that of such a site downstream: at the mean it lies between the
            support points.

    References:
        Gu, Levine, Sutskever, Mnih, 2016, MuProp: Unbiased Backpropagation for Stochastic Neural
        Networks, https://arxiv.org/abs/1511.05176

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.MuProp()})
    """

    unbiased = True
    paper = Paper(
        "Gu, Levine, Sutskever, Mnih",
        "MuProp: Unbiased Backpropagation for Stochastic Neural Networks",
        2016,
        "1511.05176",
    )
    supported = RELAXABLE

    def remedy(self, fn: TorchDistribution) -> str:
        return integer_remedy(fn)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 2

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        return (Branch.of(probabilities(site.base)[None], order=1, downstream=AtMeans()),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, (slope,) = evaluations.site, evaluations.gradient().detach()
        mean = probabilities(site.base).detach()
        linear = evaluations.costs[1] + dot(site, slope, site.value - mean)
        of_linear = estimate_in_logits(site, slope_in_logits(site.base, slope))
        return (evaluations.cost - linear) * site.log_prob + of_linear
