"""Decoupled straight-through: one temperature for the values, another for the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.relaxation import coordinate, to_value
from ..distributions.rules.wrappers import coordinates
from ..temperature import (
    Temperature,
    as_option,
    check_temperature,
    current_value,
    fault_of,
    refuse_parameter,
)
from .base import Estimator
from .hard_forward import HardForward
from .protocol import Paper
from .relaxed import Tempered


@dataclass(frozen=True, eq=False)
class DecoupledStraightThrough(Tempered, HardForward, Estimator):
    r"""A hard sample at one temperature with the gradient of probabilities at another: biased.

    .. math::
        z = b + p_B - \mathrm{stop}(p_B),\qquad b \sim \mathrm{softmax}(\alpha / T_F),\qquad
        p_B = \mathrm{softmax}(\alpha / T_B)

    (for Bernoulli sites sigmoids). :math:`T_F` says how much chance there is in the values, from the
    most likely one to all alike, and :math:`T_B` over how many classes the gradient is spread. With
    both at 1 this is :class:`StraightThrough`.

    A :math:`T_F` other than 1 samples from another law than the guide says. The loss is then the ELBO
    of that law: guide and model score the value by discrete log probabilities, extended linearly, the
    guide's at :math:`\alpha / T_F`, held fixed. What has been trained so is a guide whose logits are
    divided by the last :math:`T_F`. Serves Bernoulli and one-hot sites. One evaluation.

    Args:
        forward_temperature: :math:`T_F > 0` of the values: a float, a tensor, an
            :class:`~pyro_reparam_ext.ExponentialDecay`, or a function that returns one. No gradient
            reaches it.
        backward_temperature: :math:`T_B > 0` of the gradient: these, or an ``nn.Parameter`` (learned).

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, an option is out of range, or
            the program makes a number of the value (it branches on it, or indexes a list), by which the
            gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Shah, Yan, Mozer, Liu, 2024, Improving Discrete Optimisation via Decoupled Straight-Through
        Estimator, https://arxiv.org/abs/2410.13331 (its second version)

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.DecoupledStraightThrough(forward_temperature=1.0, backward_temperature=2.0)
        DecoupledStraightThrough(forward_temperature=1.0, backward_temperature=2.0)
    """

    forward_temperature: Temperature
    backward_temperature: Temperature

    unbiased = False
    paper = Paper(
        "Shah, Yan, Mozer, Liu",
        "Improving Discrete Optimisation via Decoupled Straight-Through Estimator",
        2024,
        "2410.13331",
    )

    def __post_init__(self) -> None:
        check_temperature("DecoupledStraightThrough", self.forward_temperature)
        refuse_parameter("DecoupledStraightThrough", "forward_temperature", self.forward_temperature)
        check_temperature("DecoupledStraightThrough", self.backward_temperature)
        object.__setattr__(self, "backward_temperature", as_option(self.backward_temperature))

    @property
    def temperature(self) -> Temperature:  # type: ignore[override]
        return self.backward_temperature

    @property
    def keeps_law(self) -> bool:  # type: ignore[override]
        forward = self.forward_temperature
        return isinstance(forward, (int, float)) and forward == 1

    def fault(self, fn: TorchDistribution) -> str | None:
        return fault_of(self.forward_temperature, coordinates(fn).batch_shape) or super().fault(fn)

    def law(self, base: TorchDistribution) -> TorchDistribution:
        if self.keeps_law:
            return base
        logits = exact_logits(base)
        tempered = coordinate(base, logits, current_value(self.forward_temperature))
        tempered = torch.where(logits.isinf(), logits, tempered)
        family = dist.Bernoulli if is_binary(base) else dist.OneHotCategorical
        return family(logits=tempered, validate_args=False)

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        logits = coordinate(base, exact_logits(base), self.current_temperature)
        return to_value(base, logits)
