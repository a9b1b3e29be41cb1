"""A Bernoulli distribution whose hard samples carry the gradient of a relaxed sample."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints

from ..noise import logistic_like
from ..numerics.relaxation import bernoulli_linear, within
from .mixins.straight_through import Gradient, StraightThrough, arguments
from .rules.logits import exact_logits
from .supports.relaxed import relaxed_interval
from .supports.straight_through import StraightThroughBoolean


class StraightThroughBernoulli(StraightThrough, dist.Bernoulli):
    r"""A Bernoulli distribution whose samples are exactly 0 or 1, with a relaxed sample's gradient.

    .. math::
        b = 1[x > 0], \qquad \frac{\partial b}{\partial \theta} :=
        \frac{\partial}{\partial \theta}\, \sigma(x / T), \qquad
        x = \alpha + L, \quad L \sim \mathrm{Logistic}

    The law is the discrete one: entropy, moments, enumeration and KL divergences are a Bernoulli's. The
    log probability is linear in the value, so that a value has a gradient there too.

    The gradient of an expectation is biased unless costs are linear in the value; see
    :class:`StraightThroughOneHotCategorical`, also for what autoguides do.

    An ELBO of Pyro's says nothing where a program indexes by a value of a guide that has this class by
    itself, or branches on it, and so loses the gradient; with
    :class:`~pyro_reparam_ext.reparam.AutoRelax`, or by :class:`~pyro_reparam_ext.TraceEstimator_ELBO`,
    that raises or is warned of.

    See also:
        :class:`~pyro_reparam_ext.StraightThroughGumbelSoftmax`, the same gradient as an estimator for
        a site that stays an ordinary Bernoulli.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2016,
        https://arxiv.org/abs/1611.01144; Maddison, Mnih, Teh, *The Concrete Distribution*, 2016,
        https://arxiv.org/abs/1611.00712.

    Args:
        temperature: :math:`T > 0` of the gradient (None: 1), broadcast with the batch shape. The law
            doesn't depend on it.
        probs: the probability of 1, in [0, 1].
        logits: the log odds :math:`\alpha` of 1. Give one of the two.
        gradient: in place of the temperature, a straight-through estimator whose gradient the values
            take: ``ReinMax()``, ``GumbelRao(0.5, 10)``, ... Autoguides, whose keys it has no gradient
            in, refuse it.
        validate_args: whether to check parameters and values.

    Raises:
        EstimatorError: a temperature with a ``gradient``, or one that draws from another law.
        ValueError: both or none of ``probs`` and ``logits``; or, with validation on, a parameter out of
            range or a value that isn't exactly 0 or 1.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor(0.0, requires_grad=True)
        >>> b = pre.distributions.StraightThroughBernoulli(0.5, logits=logits).rsample((10_000,))
        >>> b.detach().unique()
        tensor([0., 1.])
        >>> b.mean().backward()
        >>> print(f"{logits.grad.item():.1f}")  # p (1 - p) = 1/4 as T falls
        0.2
    """

    arg_constraints: ClassVar = {
        "temperature": constraints.positive,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }

    _scored = relaxed_interval

    def __init__(
        self,
        temperature: Tensor | float | None = None,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        *,
        gradient: Gradient | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature, parameter = arguments(
            type(self).__name__, temperature, probs, logits, gradient, event_dim=0
        )
        self.gradient = gradient
        super().__init__(**parameter, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return StraightThroughBoolean(self._key_temperature)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        logits = within(exact_logits(self)).expand(self._extended_shape(torch.Size(sample_shape)))
        return self._hard(logits + logistic_like(logits))

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        return bernoulli_linear(logits, value)
