"""Straight-through: hard values forward, the gradient of the probabilities backward."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.relaxation import probabilities
from .base import Estimator
from .hard_forward import HardForward
from .protocol import Paper


@dataclass(frozen=True, eq=False)
class StraightThrough(HardForward, Estimator):
    r"""A hard sample whose backward pass is that of its probabilities: biased, one evaluation.

    .. math::
        z = b + p_\phi - \mathrm{stop}(p_\phi),\qquad b \sim q_\phi

    so that the gradient is :math:`E_b[f'(b)]\,\nabla_\phi p_\phi`, exact where :math:`f` is linear.
    Guide and model score the value by the discrete log probability, extended linearly; the guide's is
    held fixed in its parameters, since the score at a fixed value has mean zero. Serves Bernoulli and
    one-hot sites.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, or the program makes a number of
            the value (it branches on it, or indexes a list), by which the gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Bengio, Léonard, Courville, 2013, Estimating or Propagating Gradients Through Stochastic
        Neurons for Conditional Computation, https://arxiv.org/abs/1308.3432

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.StraightThrough()})
    """

    unbiased = False
    paper = Paper(
        "Bengio, Léonard, Courville",
        "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
        2013,
        "1308.3432",
    )

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        return probabilities(base)
