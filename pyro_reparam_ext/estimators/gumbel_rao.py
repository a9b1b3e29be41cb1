"""Gumbel-Rao: straight-through Gumbel-Softmax, averaged over the noise that leads to the value."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import noise_given
from ..distributions.rules.relaxation import coordinate, harden, noisy_logits, to_value
from ..temperature import Temperature, as_option, check_temperature
from .base import Estimator, require_positive
from .hard_forward import HardForward
from .protocol import Paper
from .relaxed import Tempered


@dataclass(frozen=True, eq=False)
class GumbelRao(Tempered, HardForward, Estimator):
    r"""A hard sample whose backward pass is the mean of its Gumbel-Softmax relaxations: biased.

    .. math::
        z = b + y - \mathrm{stop}(y),\qquad
        y = \frac1K \sum_{k=1}^K \mathrm{softmax}\big((\alpha + G^k)/T\big),\qquad
        b = \mathrm{onehot}\big(\arg\max(\alpha + G^1)\big)

    with :math:`G^2, \dots, G^K` drawn from the law of the Gumbel noise given that it leads to the same
    :math:`b` (for Bernoulli sites logistic noise, sigmoid and threshold), and all held fixed in the
    backward pass. So this is :class:`StraightThroughGumbelSoftmax`, which it is for :math:`K = 1`, with
    a part of its noise averaged out: the same mean, less variance, for :math:`K` draws of noise and one
    evaluation of the program. The gain is largest at low temperatures, at which the bias is small.

    Guide and model score the value by the discrete log probability, extended linearly; the guide's is
    held fixed in its parameters. Serves Bernoulli and one-hot sites.

    Args:
        temperature: ``T > 0``: a float, a tensor, an ``nn.Parameter`` (learned; for one
            that stays positive give ``pyro.param`` with a constraint), or an
            :class:`~pyro_reparam_ext.ExponentialDecay`.
        num_samples: :math:`K`, draws of noise for each value. Memory grows with it by the size of the
            site.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, an option is out of range, or
            the program makes a number of the value (it branches on it, or indexes a list), by which the
            gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Paulus, Maddison, Krause, 2021, Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
        Estimator, https://arxiv.org/abs/2010.04838

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.GumbelRao(temperature=0.5, num_samples=100)
        GumbelRao(temperature=0.5, num_samples=100)
    """

    temperature: Temperature
    num_samples: int

    unbiased = False
    paper = Paper(
        "Paulus, Maddison, Krause",
        "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator",
        2021,
        "2010.04838",
    )

    def __post_init__(self) -> None:
        check_temperature("GumbelRao", self.temperature)
        object.__setattr__(self, "temperature", as_option(self.temperature))
        require_positive("GumbelRao", num_samples=self.num_samples)

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        soft, others = self._relaxed(base, z), self.num_samples - 1
        if not others:
            return soft
        hard = harden(base, z.detach())
        noise = noise_given(base, hard.expand((others, *hard.shape)))
        return (soft + self._relaxed(base, noisy_logits(base, noise)).sum(0)) / self.num_samples

    def _relaxed(self, base: TorchDistribution, z: Tensor) -> Tensor:
        return to_value(base, coordinate(base, z, self.current_temperature))
