r"""The continuous keys behind a discrete value, and where they lie when the value is given.

A Boolean value is the sign of a logistic key, a class the argmax of Gumbel keys, an order that of the
keys. Given the value, all keys that lead to it are possible; the functions here choose those with each
conditional law at its median, the largest key first. They lead to the value strictly, whereas the
most likely keys may have ties.
"""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid, softplus

from ..distributions.mixins.parametric import Parametric
from ..noise import gumbel_like, logistic_like

LOG_LOG_2 = math.log(math.log(2))
"""Minus the median of a standard Gumbel variable."""


class _Noise(Parametric):
    """A location-scale family of standard noise, never infinite, and under ``vmap`` too."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float = 1.0, *, validate_args: bool | None = None
    ) -> None:
        super().__init__({"loc": loc, "scale": scale}, validate_args=validate_args)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        loc = self.loc.expand(self._extended_shape(torch.Size(sample_shape)))
        return loc + self.scale * self._standard(loc)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self._log_density((value - self.loc) / self.scale) - self.scale.log()

    def _standard(self, like: Tensor) -> Tensor:
        raise NotImplementedError

    def _log_density(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Logistic(_Noise):
    r"""The difference of two Gumbel variables: :math:`F(x) = \sigma(x)`."""

    def _standard(self, like: Tensor) -> Tensor:
        return logistic_like(like)

    def _log_density(self, x: Tensor) -> Tensor:
        return logsigmoid(x) + logsigmoid(-x)


class Gumbel(_Noise):
    r""":math:`F(x) = \exp(-e^{-x})`."""

    def _standard(self, like: Tensor) -> Tensor:
        return gumbel_like(like)

    def _log_density(self, x: Tensor) -> Tensor:
        return -x - (-x).exp()


KEYS = "keys of GumbelMaxReparam"
"""What errors call them."""


class LogisticKeys(Logistic):
    """Keys of hard values, which carry no gradient: an ELBO is to take the score function."""

    has_rsample = False
    made_by = KEYS


class GumbelKeys(Gumbel):
    """Keys of hard values, which carry no gradient: an ELBO is to take the score function."""

    has_rsample = False
    made_by = KEYS


def logistic_median(logits: Tensor, value: Tensor) -> Tensor:
    r"""The median of :math:`z = l + \mathrm{Logistic}` given that :math:`1[z > 0]` is ``value``."""
    sign = 2 * value - 1
    return sign * softplus(softplus(sign * logits))


def gumbel_medians(logits: Tensor, value: Tensor) -> Tensor:
    r"""Keys :math:`z = l + \mathrm{Gumbel}` whose argmax is the one-hot ``value``.

    The largest is at its median, the others at their medians given that they are below it.
    """
    top = logits.logsumexp(-1, keepdim=True) - LOG_LOG_2
    return torch.where(value == 1, top, -torch.logaddexp(-top, LOG_LOG_2 - logits))


def ordered_medians(logits: Tensor) -> Tensor:
    r"""Descending keys :math:`z = l + \mathrm{Gumbel}`, each at its median given those before it.

    Of the keys that are not yet placed, the largest, as :math:`e^{-z}`, lies an exponential variable of
    rate :math:`\sum e^{l}` after the last.
    """
    left = logits.flip(-1).logcumsumexp(-1).flip(-1)
    return -(LOG_LOG_2 + (-left).logcumsumexp(-1))


def most_likely_shift(noise: Tensor, dims: int) -> Tensor:
    r"""The constant :math:`c` that makes Gumbel noise :math:`g + c` most likely, over the last dims.

    :math:`-\sum_k (g_k + c) - \sum_k e^{-(g_k + c)}` is largest at the logarithm of the mean of
    :math:`e^{-g_k}`.
    """
    over = tuple(range(-dims, 0))
    return (-noise).logsumexp(over, keepdim=True) - math.log(math.prod(noise.shape[-dims:]))
