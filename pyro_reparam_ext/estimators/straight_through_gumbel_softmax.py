"""Straight-through Gumbel-Softmax: hard values forward, the relaxed value's gradient backward."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.relaxation import coordinate, to_value
from ..temperature import Temperature, as_option, check_temperature
from .base import Estimator
from .hard_forward import HardForward
from .protocol import Paper
from .relaxed import Tempered


@dataclass(frozen=True, eq=False)
class StraightThroughGumbelSoftmax(Tempered, HardForward, Estimator):
    r"""A hard sample whose backward pass is that of its Gumbel-Softmax relaxation: biased.

    .. math::
        z = b + y - \mathrm{stop}(y),\qquad y = \mathrm{softmax}\big((\alpha + G)/T\big),\quad
        b = \mathrm{onehot}(\arg\max y)

    (for Bernoulli sites sigmoid and threshold). Guide and model score the value by the discrete log
    probability, extended linearly; the guide's is held fixed in its parameters. One evaluation.

    Args:
        temperature: ``T > 0``: a float, a tensor, an ``nn.Parameter`` (learned; for one
            that stays positive give ``pyro.param`` with a constraint), or an
            :class:`~pyro_reparam_ext.ExponentialDecay`.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, ``T <= 0``, or the program makes
            a number of the value (it branches on it, or indexes a list), by which the gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Jang, Gu, Poole, 2016, Categorical Reparameterization with Gumbel-Softmax,
        https://arxiv.org/abs/1611.01144

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.StraightThroughGumbelSoftmax(temperature=1.0)
        StraightThroughGumbelSoftmax(temperature=1.0)
    """

    temperature: Temperature

    unbiased = False
    paper = Paper(
        "Jang, Gu, Poole", "Categorical Reparameterization with Gumbel-Softmax", 2016, "1611.01144"
    )

    def __post_init__(self) -> None:
        check_temperature("StraightThroughGumbelSoftmax", self.temperature)
        object.__setattr__(self, "temperature", as_option(self.temperature))

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        return to_value(base, coordinate(base, z, self.current_temperature))
