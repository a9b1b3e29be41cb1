r"""Objectives: a function of the log weights of the particles, which the guide is to maximise.

The log weight of a particle is its negative cost, :math:`w_p = \log p(x, z_p) - \log q(z_p)`. An
objective says what it makes of all, and what that would be were the weight of one particle another: all
that an estimator of a discrete site needs to know, without a further run of the program.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor


class Objective:
    """A symmetric function of the log weights of the particles."""

    is_mean: ClassVar[bool] = False
    """Whether it is their mean: then the costs of a site are those that depend on it alone."""

    def value(self, log_weights: Tensor) -> Tensor:
        """The objective, a scalar.

        Args:
            log_weights: shape ``(particles,)``.
        """
        raise NotImplementedError

    def replaced(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        """The objective were the log weight of each particle in turn another one.

        Args:
            log_weights: shape ``(particles,)``.
            alternatives: shape ``(..., particles)``.

        Returns:
            The shape of ``alternatives``: at each place the objective with the weight of that particle
            replaced, and no other.
        """
        raise NotImplementedError


class Mean(Objective):
    r"""The mean of the log weights: the ELBO.

    .. math::
        \frac1P \sum_p w_p
    """

    is_mean = True

    def value(self, log_weights: Tensor) -> Tensor:
        return log_weights.mean()

    def replaced(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        return log_weights.mean() + (alternatives - log_weights) / len(log_weights)


class LogMeanExp(Objective):
    r"""The logarithm of the mean weight: the importance-weighted bound.

    .. math::
        \log \frac1P \sum_p e^{w_p}

    References:
        Burda, Grosse, Salakhutdinov, 2015, Importance Weighted Autoencoders,
        https://arxiv.org/abs/1509.00519; Mnih, Rezende, 2016, Variational inference for Monte Carlo
        objectives, https://arxiv.org/abs/1602.06725
    """

    def value(self, log_weights: Tensor) -> Tensor:
        return log_weights.logsumexp(0) - math.log(len(log_weights))

    def replaced(self, log_weights: Tensor, alternatives: Tensor) -> Tensor:
        count = len(log_weights)
        own = torch.eye(count, dtype=torch.bool, device=log_weights.device)
        others = log_weights.expand(count, count).masked_fill(own, -math.inf).logsumexp(1)
        return torch.logaddexp(others, alternatives) - math.log(count)
