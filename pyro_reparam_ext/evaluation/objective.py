r"""Objectives: a function of the log weights of the particles, which the guide is to maximise.

The log weight of a particle is its negative cost, :math:`w_p = \log p(x, z_p) - \log q(z_p)`. An
objective says what it makes of all, and what that would be were the weight of one particle another: all
that an estimator of a discrete site needs to know, without a further run of the program.

Log weights have the particles on their leftmost dim. The dims right of it are elements with weights of
their own, each of which is an objective by itself.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.base import Estimator


class Objective:
    """A symmetric function of the log weights of the particles."""

    is_mean: ClassVar[bool] = False
    """Whether it is their mean: then the costs of a site are those that depend on it alone."""

    def checked(self, estimator: Estimator, name: str) -> Estimator:
        """The estimator of a site, unless it leaves out what has a mean of zero in the ELBO alone."""
        if estimator.needs_mean:
            raise EstimatorError(
                f"site '{name}': {type(estimator).__name__} was given a bound by several particles; "
                f"expected the ELBO, whose particles don't weigh each other. Configure no estimator "
                f"for '{name}', so that gradient='dreg' chooses DoublyReparameterized."
            )
        return estimator

    def value(self, log_weights: Tensor) -> Tensor:
        """The objective of each element.

        Args:
            log_weights: shape ``(particles, *elements)``.

        Returns:
            Shape ``elements``.
        """
        raise NotImplementedError

    def replaced(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        """The objective were the log weight of each particle in turn another one.

        Args:
            log_weights: shape ``(particles, *elements)``.
            alternatives: shape ``(..., particles, *elements)``.

        Returns:
            The shape of ``alternatives``: at each place the objective with the weight of that particle
            replaced, and no other.
        """
        raise NotImplementedError

    def share(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        """The derivative of :meth:`replaced` in the alternative; the same shapes."""
        raise NotImplementedError

    def baseline(self, log_weights: Tensor) -> Tensor:
        """The objective with the weight of each particle replaced by what the others tell of it.

        The same shape as ``log_weights``. At each particle it depends on the others alone.
        """
        raise NotImplementedError


class Mean(Objective):
    r"""The mean of the log weights: the ELBO.

    .. math::
        \frac1P \sum_p w_p
    """

    is_mean = True

    def checked(self, estimator: Estimator, name: str) -> Estimator:
        return estimator

    def value(self, log_weights: Tensor) -> Tensor:
        return log_weights.mean(0)

    def replaced(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        return log_weights.mean(0) + (alternatives - log_weights) / len(log_weights)

    def share(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        return torch.full_like(alternatives, 1 / len(log_weights))

    def baseline(self, log_weights: Tensor) -> Tensor:
        return self.replaced(log_weights, mean_of_others(log_weights))


class LogMeanExp(Objective):
    r"""The logarithm of a power mean of the weights: the importance-weighted bound, and Renyi's.

    .. math::
        \frac{1}{1 - \alpha} \log \frac1P \sum_p e^{(1 - \alpha) w_p}

    The baseline is that of VIMCO, with the mean log weight of the other particles.

    Args:
        alpha: the order; any number but 1, where the limit is :class:`Mean`.

    References:
        Burda, Grosse, Salakhutdinov, 2015, Importance Weighted Autoencoders,
        https://arxiv.org/abs/1509.00519; Li, Turner, 2016, Renyi Divergence Variational Inference,
        https://arxiv.org/abs/1602.02311; Mnih, Rezende, 2016, Variational inference for Monte Carlo
        objectives, https://arxiv.org/abs/1602.06725
    """

    def __init__(self, alpha: float = 0.0) -> None:
        self.alpha = alpha

    def value(self, log_weights: Tensor) -> Tensor:
        power = 1 - self.alpha
        return ((power * log_weights).logsumexp(0) - math.log(len(log_weights))) / power

    def replaced(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        power = 1 - self.alpha
        total = torch.logaddexp(self._others(log_weights), power * alternatives)
        return (total - math.log(len(log_weights))) / power

    def share(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        return ((1 - self.alpha) * alternatives - self._others(log_weights)).sigmoid()

    def baseline(self, log_weights: Tensor) -> Tensor:
        return self.replaced(log_weights, mean_of_others(log_weights))

    def _others(self, log_weights: Tensor) -> Tensor:
        """For each particle the logarithm of the sum over the others of their weights to the power."""
        return without_own((1 - self.alpha) * log_weights, -math.inf).logsumexp(1)


class LogMeanExpLessOne(LogMeanExp):
    r""":class:`LogMeanExp` with the baseline whose signal does not drown as particles are added.

    It has :math:`\alpha` times the mean of :math:`e^{(1 - \alpha) w}` over the other particles in the
    place of a particle's own; for the importance-weighted bound nothing, the particle is left out. To
    first order in its share :math:`v_p`, a particle gains :math:`v_p / (1 - \alpha)` over leaving it
    out, of which its log density takes :math:`v_p` away. What is left is
    :math:`v_p\,\alpha / (1 - \alpha)`, of which this takes the mean away: all of it for
    :math:`\alpha = 0`, else what is most for a share and a score that don't know of each other.

    References:
        Lievin, Dittadi, Christensen, Winther, 2020, Optimal Variance Control of the Score Function
        Gradient Estimator for Importance Weighted Bounds, https://arxiv.org/abs/2008.01998; Daudel et
        al., 2026, Importance Weighted Variational Inference without the Reparameterization Trick,
        https://arxiv.org/abs/2602.01412
    """

    def baseline(self, log_weights: Tensor) -> Tensor:
        power, others = 1 - self.alpha, self._others(log_weights)
        share = self.alpha / max(len(log_weights) - 1, 1)
        return (others + math.log1p(share) - math.log(len(log_weights))) / power


def mean_of_others(log_weights: Tensor) -> Tensor:
    """The mean log weight of the other particles, for each particle."""
    return without_own(log_weights, 0.0).sum(1) / max(len(log_weights) - 1, 1)


def without_own(log_weights: Tensor, own: float) -> Tensor:
    """For each particle the log weights of all, ``own`` in its own place.

    Shape ``(particles, particles, *elements)``. A weight of zero is no obstacle, as in a difference.
    """
    count = len(log_weights)
    mask = torch.eye(count, dtype=torch.bool, device=log_weights.device)
    mask = mask.reshape(count, count, *(1,) * (log_weights.dim() - 1))
    return log_weights.expand(count, *log_weights.shape).masked_fill(mask, own)
