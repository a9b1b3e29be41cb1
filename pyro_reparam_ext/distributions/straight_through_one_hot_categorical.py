"""A one-hot categorical distribution whose hard samples carry the gradient of a relaxed sample."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, constraints

from ..noise import gumbel_like
from ..numerics.relaxation import one_hot_linear, within
from .mixins.straight_through import Gradient, StraightThrough, arguments
from .rules.logits import exact_logits
from .supports.relaxed import relaxed_simplex
from .supports.straight_through import StraightThroughOneHot


class StraightThroughOneHotCategorical(StraightThrough, dist.OneHotCategorical):
    r"""A one-hot categorical whose samples are exactly one-hot, with a relaxed sample's gradient.

    .. math::
        b = \mathrm{onehot}(\arg\max_k x_k), \qquad \frac{\partial b}{\partial \theta} :=
        \frac{\partial}{\partial \theta}\, \mathrm{softmax}(x / T), \qquad
        x = \alpha + G, \quad G_k \sim \mathrm{Gumbel}

    The law is the discrete one: entropy, moments, enumeration and KL divergences are a categorical's.
    The log probability :math:`\sum_k b_k \log \pi_k` is linear in the value, so that a value has a
    gradient there. Put the class in guide and model alike: ``OneHotCategorical`` scores by an argmax,
    which loses that gradient in silence.

    The gradient of an expectation is biased. But where the costs downstream are linear in the value,
    such as ``(z * log_likelihood_of_each_class).sum(-1)``, it vanishes exactly where the true gradient
    does, at every temperature, and there without variance. Where they are not, such as a
    likelihood ``Normal((z * means).sum(-1), scale)``, the bias falls and the variance grows with
    :math:`1 / T`.

    In the guide's entropy term ``Trace_ELBO`` differentiates the value only (:meth:`score_parts`); the
    score of the parameters at a hard value has mean zero, and much variance. Pyro's autoguides put a
    normal law on the K real keys :math:`x` of each value; their ELBO bounds the same evidence.
    NUTS enumerates the site.

    An ELBO of Pyro's says nothing where a program indexes by a value of a guide that has this class by
    itself, or branches on it, and so loses the gradient; with
    :class:`~pyro_reparam_ext.reparam.AutoRelax`, or by :class:`~pyro_reparam_ext.TraceEstimator_ELBO`,
    that raises or is warned of.

    See also:
        :class:`~pyro_reparam_ext.StraightThroughGumbelSoftmax`, the same gradient as an estimator for
        a site that stays an ordinary ``OneHotCategorical``.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2016,
        https://arxiv.org/abs/1611.01144; Maddison, Mnih, Teh, *The Concrete Distribution*, 2016,
        https://arxiv.org/abs/1611.00712.

    Args:
        temperature: :math:`T > 0` of the gradient (None: 1), broadcast with the batch shape. The law
            doesn't depend on it.
        probs: probabilities of the K classes in the last dim, normalised if they aren't.
        logits: log probabilities :math:`\alpha`, normalised if they aren't; may be minus infinity.
            Give one of the two.
        gradient: in place of the temperature, a straight-through estimator whose gradient the values
            take: ``ReinMax()``, ``GumbelRao(0.5, 10)``, ... Autoguides, whose keys it has no gradient
            in, refuse it.
        validate_args: whether to check parameters and values.

    Raises:
        EstimatorError: a temperature with a ``gradient``, or one that draws from another law.
        ValueError: both or none of ``probs`` and ``logits``; or, with validation on, a parameter out of
            range or a value that isn't exactly one-hot.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
        >>> fn = pre.distributions.StraightThroughOneHotCategorical(0.1, logits=logits)
        >>> z = fn.rsample()
        >>> sorted(z.tolist()), z.requires_grad
        ([0.0, 0.0, 1.0], True)
        >>> fn.log_prob(torch.eye(3)).exp()
        tensor([0.0900, 0.2447, 0.6652], grad_fn=<ExpBackward0>)
    """

    arg_constraints: ClassVar = {
        "temperature": constraints.positive,
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }

    _scored = relaxed_simplex

    def __init__(
        self,
        temperature: Tensor | float | None = None,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        gradient: Gradient | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature, parameter = arguments(
            type(self).__name__, temperature, probs, logits, gradient, event_dim=1
        )
        self.gradient = gradient
        # OneHotCategorical's own validates its Categorical whatever ``validate_args`` is.
        self._categorical = Categorical(**parameter, validate_args=validate_args)
        batch_shape, event_shape = self.param_shape[:-1], self.param_shape[-1:]
        Distribution.__init__(self, batch_shape, event_shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return StraightThroughOneHot(self._key_temperature)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        logits = within(exact_logits(self)).expand(self._extended_shape(torch.Size(sample_shape)))
        return self._hard(logits + gumbel_like(logits))

    @property
    def _interior(self) -> float:
        return 1 / self.event_shape[0]

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        return one_hot_linear(logits, value)
