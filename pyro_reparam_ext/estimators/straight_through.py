"""Straight-through: hard values forward, the gradient of the probabilities backward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.coupling import couple
from ..distributions.rules.discrete_noise import hard_sample
from ..distributions.rules.relaxation import probabilities
from ..distributions.rules.wrappers import coordinates
from ..noise import NoiseSource
from ..numerics.straight_through import straight_through
from .base import Estimator
from .protocol import Draw, Paper, Site
from .relaxed import LinearlyScored


@dataclass(frozen=True, eq=False)
class StraightThrough(LinearlyScored, Estimator):
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

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return Draw(_attach(hard_sample(fn, source), fn))

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        with torch.no_grad():
            hard = couple(site.fn, site.value, fn)
        return Draw(_attach(hard, fn))


def _attach(hard: Tensor, fn: TorchDistribution) -> Tensor:
    """``hard``, with the gradient of the probabilities."""
    return straight_through(hard, probabilities(coordinates(fn)))
