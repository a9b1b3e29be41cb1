"""Gapped straight-through: the gradient of a relaxation without noise that agrees with the value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.relaxation import coordinate, harden, to_value
from ..numerics.relaxation import within
from ..numerics.straight_through import straight_through
from ..temperature import Temperature, as_option, check_temperature
from .base import Estimator, require_positive
from .hard_forward import HardForward
from .protocol import Paper
from .relaxed import Tempered


@dataclass(frozen=True, eq=False)
class GappedStraightThrough(Tempered, HardForward, Estimator):
    r"""A hard sample whose backward pass is that of logits moved until they lead to it: biased.

    .. math::
        z = b + y - \mathrm{stop}(y),\qquad y = \mathrm{softmax}\big((\alpha + m(b))/T\big),\qquad
        b \sim q_\phi

    where :math:`m(b)`, held fixed in the backward pass, lifts the logit of the drawn class to the
    largest one, :math:`\max_j \alpha_j`, and lowers every other that is above
    :math:`\max_j \alpha_j - \mathrm{gap}` to that. So the relaxed value agrees with the hard one, as
    that of :class:`StraightThroughGumbelSoftmax` does, but has no noise of its own: less variance, and
    another bias. A Bernoulli site is taken for two classes: :math:`\sigma(\cdot / T)` of
    :math:`\max(\alpha, \mathrm{gap})` at 1, of :math:`\min(\alpha, -\mathrm{gap})` at 0.

    Guide and model score the value by the discrete log probability, extended linearly; the guide's is
    held fixed in its parameters. Serves Bernoulli and one-hot sites. One evaluation.

    Args:
        temperature: ``T > 0``: a float, a tensor, an ``nn.Parameter`` (learned; for one
            that stays positive give ``pyro.param`` with a constraint), or an
            :class:`~pyro_reparam_ext.ExponentialDecay`.
        gap: by how much the logit of the drawn class is above the others, at least.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, an option is out of range, or
            the program makes a number of the value (it branches on it, or indexes a list), by which the
            gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Fan, Chi, Rudnicky, Ramadge, 2022, Training Discrete Deep Generative Models via Gapped
        Straight-Through Estimator, https://arxiv.org/abs/2206.07235

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.GappedStraightThrough(temperature=0.5)
        GappedStraightThrough(temperature=0.5, gap=1.0)
    """

    temperature: Temperature
    gap: float = 1.0

    unbiased = False
    paper = Paper(
        "Fan, Chi, Rudnicky, Ramadge",
        "Training Discrete Deep Generative Models via Gapped Straight-Through Estimator",
        2022,
        "2206.07235",
    )

    def __post_init__(self) -> None:
        check_temperature("GappedStraightThrough", self.temperature)
        object.__setattr__(self, "temperature", as_option(self.temperature))
        require_positive("GappedStraightThrough", gap=self.gap)

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        logits, drawn = within(exact_logits(base)), harden(base, z.detach()) > 0.5
        if is_binary(base):
            moved = torch.where(drawn, logits.clamp(min=self.gap), logits.clamp(max=-self.gap))
        else:
            top = logits.max(-1, keepdim=True).values
            moved = torch.where(drawn, top, torch.minimum(logits, top - self.gap))
        moved = straight_through(moved.detach(), logits)
        return to_value(base, coordinate(base, moved, self.current_temperature))
