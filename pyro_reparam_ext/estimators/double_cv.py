"""Double control variates: leave-one-out samples, each with the linear part of the others' costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributions.rules.relaxation import RELAXABLE, probabilities
from .base import Estimator
from .control_variates import (
    SeveralSamples,
    beside_values,
    dot,
    others,
    samples_of,
    slope_in_logits,
)
from .protocol import Evaluations, Paper, Site


class RegressionCoefficient(nn.Module):
    """How much of the linear part is added to the costs."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros((), dtype=like.dtype))


@dataclass(frozen=True, eq=False)
class DoubleCV(SeveralSamples, Estimator):
    r"""Leave-one-out samples whose costs, and whose baselines, have a Taylor expansion added.

    With :math:`\mu` the mean of the site, :math:`g_{-k}` the mean of the costs' gradients at the other
    samples, and :math:`c_k = \alpha\, g_{-k}^\top (b_k - \mu)`,

    .. math::
        \frac1K \sum_k \Big(f(b_k) + c_k - \frac{1}{K-1} \sum_{j \ne k} (f(b_j) + c_j)\Big)
        \nabla_\phi \log q_\phi(b_k) - \frac{\alpha}{K} \sum_k \nabla f(b_k)^\top \nabla_\phi \mu

    What is added to a sample's own costs is the *global* control variate, whose mean the last term
    takes away; what is added to its baseline is the *local* one, whose mean is 0. :math:`\alpha` starts
    at 0, where this is leave-one-out, and is trained, per site, on the variance of the gradient with
    respect to the logits, by the optimiser that ``SVI`` has. The gradients come from a backward pass
    through the evaluations that leave-one-out has, too.

    Serves Bernoulli and one-hot sites; ``num_samples`` evaluations, and the model learns from each.
    The samples are the site's own: the ELBO may have one particle.

    Args:
        num_samples: samples of the site per particle, at least two.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, or its value was given by a
            handler.

    References:
        Titsias, Shi, 2022, Double Control Variates for Gradient Estimation in Discrete Latent Variable
        Models, https://arxiv.org/abs/2111.05300

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.DoubleCV(num_samples=2)})
    """

    num_samples: int = 2

    unbiased = True
    paper = Paper(
        "Titsias, Shi",
        "Double Control Variates for Gradient Estimation in Discrete Latent Variable Models",
        2022,
        "2111.05300",
    )
    supported = RELAXABLE

    def new_state(self, site: Site) -> nn.Module:
        return RegressionCoefficient(site.log_prob)

    def gradient(self, evaluations: Evaluations) -> Tensor:
        """The estimate in the free logits, differentiable in the coefficient."""
        site, costs = evaluations.site, evaluations.costs
        assert isinstance(site.state, RegressionCoefficient)
        alpha, probs = site.state.alpha, probabilities(site.base).detach()
        values, slopes = samples_of(evaluations)  # shape of each: (num_samples, *value.shape)
        improved = costs + alpha * dot(site, others(slopes), values - probs)
        centred = beside_values(site, improved - others(improved))
        correction = slope_in_logits(site.base, slopes.mean(0))
        return (centred * (values - probs)).mean(0) - alpha * correction
