"""SIMPLE: hard subsets forward, the gradient of their exact marginals backward."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.conditional_bernoulli import ConditionalBernoulli
from ..distributions.rules.wrappers import coordinates, log_prob_by
from ..noise import NoiseSource
from ..numerics.straight_through import straight_through
from .base import Estimator
from .protocol import Draw, Paper, Site


@dataclass(frozen=True, eq=False)
class SIMPLE(Estimator):
    r"""A hard subset whose backward pass is that of its exact marginals: biased, one evaluation.

    .. math::
        z = b + \mu_\phi - \mathrm{stop}(\mu_\phi),\qquad b \sim q_\phi,\quad \mu_\phi = E_{q_\phi}[b]

    so that the gradient is :math:`E_b[f'(b)]\,\nabla_\phi \mu_\phi`, exact where :math:`f` is linear.
    The divergence of two such sites is linear: of it the gradient has no variance. The guide's log
    probability is held fixed in its parameters, since the score at a fixed value has mean zero. Serves
    :class:`~pyro_reparam_ext.distributions.ConditionalBernoulli`; it is
    :class:`~pyro_reparam_ext.StraightThrough` for subsets.

    Raises:
        EstimatorError: the site is not ConditionalBernoulli, or the program makes a number of the value
            (it branches on it, or indexes a list), by which the gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Ahmed, Zeng, Niepert, Van den Broeck, 2023, SIMPLE: A Gradient Estimator for k-Subset Sampling,
        https://arxiv.org/abs/2210.01941

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.SIMPLE()})
    """

    unbiased = False
    paper = Paper(
        "Ahmed, Zeng, Niepert, Van den Broeck",
        "SIMPLE: A Gradient Estimator for k-Subset Sampling",
        2023,
        "2210.01941",
    )
    supported = (ConditionalBernoulli,)
    differentiable = True

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return _with_gradient(fn, super().draw(fn, source))

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        return _with_gradient(fn, super().redraw(site, fn))

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: _held(base).log_prob(draw.value), fn)


def _with_gradient(fn: TorchDistribution, draw: Draw) -> Draw:
    return Draw(straight_through(draw.value, coordinates(fn).mean))


def _held(base: TorchDistribution) -> ConditionalBernoulli:
    assert isinstance(base, ConditionalBernoulli)
    return ConditionalBernoulli(
        base.total_count, logits=base.logits.detach(), validate_args=base._validate_args
    )
