r"""The supports of the straight-through distributions, and how they are reached from real keys.

A one-hot value :math:`b` is the argmax of keys :math:`x \in \mathbb{R}^K`, a Boolean one the sign of a
key. Continuous inference, such as an autoguide, works on the keys. It needs a law of the keys: the
conditional law :math:`r(x \mid b)` of standard noise given the value that it leads to (K Gumbel
variables given their argmax; one logistic variable given its sign):

.. math::
    r(x \mid b) = K \prod_k e^{-x_k - e^{-x_k}}\, 1[\arg\max x = b], \qquad
    r(x \mid b) = 2 \sigma(x) \sigma(-x)\, 1[1[x > 0] = b]

:math:`p(b)\, r(x \mid b)` is a joint law with marginal :math:`p(b)`, so an ELBO on it is a bound of the
same evidence. :math:`\log r` stands where a bijection has the log determinant of its Jacobian.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform
from torch.nn.functional import logsigmoid

from ...errors import EstimatorError
from ...numerics.gumbel_sum import GAMMA
from ...numerics.relaxation import hard_bernoulli, hard_one_hot
from ...numerics.sigmoid import sigmoid
from ...numerics.straight_through import straight_through


class StraightThroughBoolean(type(constraints.boolean)):  # type: ignore[misc]
    """0 or 1, reached from a real key by its sign, with the gradient of a sigmoid.

    Without a temperature it has no such gradient, and is not reached.
    """

    def __init__(self, temperature: Tensor | None) -> None:
        self.temperature = temperature
        super().__init__()

    def __repr__(self) -> str:  # torch's drops the first letter
        return f"{type(self).__name__}({self.temperature})"


class StraightThroughOneHot(type(constraints.one_hot)):  # type: ignore[misc]
    """One-hot vectors, reached from real keys by their argmax, with the gradient of a softmax.

    Without a temperature they have no such gradient, and are not reached.
    """

    def __init__(self, temperature: Tensor | None) -> None:
        self.temperature = temperature
        super().__init__()

    def __repr__(self) -> str:  # torch's drops the first letter
        return f"{type(self).__name__}({self.temperature})"


class _FromKeys(Transform):
    """From keys to hard values. The inverse of a value is the mean of its keys."""

    bijective = True  # with the law of the keys for the Jacobian

    def __init__(self, codomain: StraightThroughBoolean | StraightThroughOneHot) -> None:
        if codomain.temperature is None:
            raise EstimatorError(
                "a straight-through distribution has the gradient of an estimator, which is one in its "
                "logits: values that are made of real keys, as those of an autoguide are, get none by "
                "it. Give it a temperature in place of gradient= (AutoRelax: straight_through=True), "
                "or write the guide by hand."
            )
        self.codomain = codomain
        self.temperature = codomain.temperature
        super().__init__()


class Step(_FromKeys):
    r""":math:`x \mapsto 1[x > 0]`, with the gradient of :math:`\sigma(x / T)`."""

    domain = constraints.real

    def _call(self, x: Tensor) -> Tensor:
        return straight_through(hard_bernoulli(x), sigmoid(x / self.temperature))

    def _inverse(self, y: Tensor) -> Tensor:
        return (2 * y - 1) * (2 * math.log(2))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return math.log(2) + logsigmoid(x) + logsigmoid(-x)


class OneHotArgmax(_FromKeys):
    r""":math:`x \mapsto \mathrm{onehot}(\arg\max x)`, with the gradient of softmax(x / T)."""

    domain = constraints.real_vector

    def _call(self, x: Tensor) -> Tensor:
        soft = (x / self.temperature.unsqueeze(-1)).softmax(-1)
        return straight_through(hard_one_hot(x), soft)

    def _inverse(self, y: Tensor) -> Tensor:
        classes = y.shape[-1]
        top = GAMMA + math.log(classes)
        rest = (classes * GAMMA - top) / max(classes - 1, 1)
        return rest + (top - rest) * y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return math.log(x.shape[-1]) - (x + (-x).exp()).sum(-1)


for registry in (biject_to, transform_to):
    registry.register(StraightThroughBoolean, Step)
    registry.register(StraightThroughOneHot, OneHotArgmax)
