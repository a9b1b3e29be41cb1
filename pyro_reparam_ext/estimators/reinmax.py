"""ReinMax: a straight-through gradient of second order."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.relaxation import coordinate, harden
from ..numerics.relaxation import within
from ..temperature import Temperature, check_temperature, refuse_parameter
from .base import Estimator
from .hard_forward import HardForward
from .protocol import Paper
from .relaxed import Tempered


@dataclass(frozen=True, eq=False)
class ReinMax(Tempered, HardForward, Estimator):
    r"""A hard sample with a gradient of second order: one evaluation, exact for quadratic costs.

    .. math::
        \nabla_\alpha f := \Big(2\, J\big(\tfrac{\pi_T + b}2\big) - \tfrac12\, J(\pi)\Big)\,
        f'(b),\qquad J(p) = \mathrm{diag}(p) - p\, p^\top

    with :math:`\pi = \mathrm{softmax}(\alpha)`, :math:`\pi_T = \mathrm{softmax}(\alpha / T)` and
    :math:`b \sim \pi`. The straight-through gradient :math:`J(\pi) f'(b)` takes a step of
    :math:`f` for :math:`f'` at one end, Euler's method; this takes the mean of :math:`f'` at both ends,
    the trapezoidal rule (Heun's method). At :math:`T = 1` its mean is the exact gradient where the cost
    is quadratic in each one-hot vector, or Bernoulli variable, with the others fixed; at other
    temperatures it is not. (For a Bernoulli variable at :math:`T = 1` it is :math:`f'(b)` times half
    the probability of the other value.)

    Guide and model score the value by the discrete log probability, extended linearly; the guide's is
    held fixed in its parameters. Serves Bernoulli and one-hot sites. One evaluation.

    Args:
        temperature: ``T > 0``: a float, a tensor, an :class:`~pyro_reparam_ext.ExponentialDecay`, or a
            function that returns one; the paper takes 1 to 1.5. No gradient reaches it.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, an option is out of range, or
            the program makes a number of the value (it branches on it, or indexes a list), by which the
            gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Liu, Dong, Liu, Yu, Gao, 2023, Bridging Discrete and Backpropagation: Straight-Through and
        Beyond, https://arxiv.org/abs/2304.08612

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.ReinMax()})
    """

    temperature: Temperature = 1.0

    unbiased = False
    paper = Paper(
        "Liu, Dong, Liu, Yu, Gao",
        "Bridging Discrete and Backpropagation: Straight-Through and Beyond",
        2023,
        "2304.08612",
    )

    def __post_init__(self) -> None:
        check_temperature("ReinMax", self.temperature)
        refuse_parameter("ReinMax", "temperature", self.temperature)

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        logits, hard = exact_logits(base), harden(base, z.detach())
        cooled = coordinate(base, logits.detach(), self.current_temperature)
        step = within(logits) - within(logits).detach()  # zero, and moves with the logits
        if is_binary(base):
            # 1 - p as the probability of 0, which doesn't lose its digits near p = 1.
            law, other = logits.detach().sigmoid(), (-logits.detach()).sigmoid()
            ahead = (cooled.sigmoid() + hard) * ((-cooled).sigmoid() + (1 - hard))  # 4 p (1 - p)
            return 0.5 * (ahead - law * other) * step
        law = logits.detach().softmax(-1)
        return 2 * _slope((cooled.softmax(-1) + hard) / 2, step) - 0.5 * _slope(law, step)


def _slope(probs: Tensor, step: Tensor) -> Tensor:
    """How the probabilities of classes change with a step of the logits."""
    return probs * (step - (probs * step).sum(-1, keepdim=True))
