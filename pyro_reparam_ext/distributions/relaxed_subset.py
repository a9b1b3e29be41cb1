"""A random subset of k items, relaxed."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..noise import gumbel_like
from ..numerics.relaxed_top_k import relaxed_top_k
from ..numerics.straight_through import straight_through
from ..numerics.subset_law import inclusion_probabilities, log_subset_probability
from .mixins.held_score import HeldScore
from .mixins.parametric import Parametric
from .rules.half_precision import drawn_in_single
from .rules.known_defects import register_biased
from .rules.temperatures import in_batch
from .supports.finite import finite_vector

MAX_MEAN_ITEMS = 64
"""The mean takes memory in n^2 k and time in n^3 k."""


class KHotHull(constraints.Constraint):
    """Vectors in [0, 1]^n whose sum is k, up to rounding."""

    event_dim = 1

    def __init__(self, k: int) -> None:
        self.k = k
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        tolerance = 4 * torch.finfo(value.dtype).eps * (value.shape[-1] + self.k)
        inside = ((value >= 0) & (value <= 1)).all(-1)
        return inside & ((value.sum(-1) - self.k).abs() <= tolerance)

    def __repr__(self) -> str:
        return f"KHotHull({self.k})"


class RelaxedSubset(HeldScore, Parametric):
    r"""A subset of k of n items, drawn without replacement, as a relaxed k-hot vector.

    The keys are perturbed by Gumbel noise, and a relaxation of the indicator of the k largest is taken:

    .. math::
        z_i = l_i + G_i, \qquad a^j = \mathrm{softmax}(\alpha^j / T), \qquad \alpha^1 = z, \quad
        \alpha^{j+1} = \alpha^j + \log(1 - a^j), \qquad y = \min\Big(1, c \sum_{j=1}^k a^j\Big),

    with the :math:`c \ge 1` for which :math:`\sum_i y_i = k`; the sum alone takes more than 1 of an
    item where T is not small. As T falls, y becomes the k-hot vector of the k largest keys. Where
    several keys lie within T of each other the gradient grows as a power of 1 / T: it is finite in
    float32 for 20 of 1,000 items at T = 0.01, but large.

    The density of y is not known. :meth:`log_prob` is the log probability of the subset, extended to
    relaxed values:

    .. math::
        P(y) = \int_0^1 \prod_i \Big(1 - v^{e^{l_i} / R}\Big)^{y_i} dv, \qquad
        R = \sum_i (1 - y_i)\, e^{l_i},

    exact at k-hot vectors, to 1e-10 in float64 and 1e-6 in float32, for logits of any size. It does not
    depend on T, and an ELBO of relaxed values is not a bound, its gradient in the guide not that of the
    printed loss, but near that of the hard law's; that of straight-through values is a bound, with a
    biased gradient.

    An ELBO of Pyro's says nothing where a program indexes by a value of it or branches on it, and so
    loses the gradient.

    See also:
        :class:`PlackettLuce`, the law of the order in which the items are drawn.

    References:
        Xie, Ermon, *Reparameterizable Subset Sampling via Continuous Relaxations*, 2019,
        https://arxiv.org/abs/1901.10517. Kool, van Hoof, Welling, *Stochastic Beams and Where to Find
        Them*, 2019, https://arxiv.org/abs/1903.06059; *Estimating Gradients for Discrete Random
        Variables by Sampling without Replacement*, 2020, https://arxiv.org/abs/2002.06043.

    Args:
        temperature: :math:`T > 0`, of shape (...).
        logits: :math:`l`, of shape (..., n), finite: the logarithms of the weights, up to a constant.
            To leave an item out, give it a logit far below the others.
        k: the size of the subset, from 1 to n - 1.
        straight_through: whether values are k-hot, with the gradient of the relaxed ones.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: k is not between 1 and n - 1; or, with validation on, a parameter is out of range.
        NotImplementedError: the mean of relaxed values, or of more than 64 items.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
        >>> subset = pre.distributions.RelaxedSubset(0.5, logits, 2, straight_through=True)
        >>> print(subset.mean)  # the probability of each item to be in the subset
        tensor([0.1030, 0.2747, 0.6957, 0.9266])
        >>> print(subset.log_prob(torch.tensor([0.0, 0.0, 1.0, 1.0])).exp())
        tensor(0.6282)
    """

    arg_constraints = {"temperature": constraints.positive, "logits": finite_vector}
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor | float,
        logits: Tensor,
        k: int,
        *,
        straight_through: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        items = logits.shape[-1] if logits.dim() else 0
        if not 1 <= k < items:
            raise ValueError(
                f"RelaxedSubset: expected 1 <= k < n, was given k = {k} and logits of shape "
                f"{tuple(logits.shape)}; the subset of all items needs no distribution."
            )
        self.k, self.straight_through = k, straight_through
        temperature = in_batch("RelaxedSubset", temperature, logits.shape, 1)
        parameters = {"temperature": temperature, "logits": logits}
        super().__init__(parameters, logits.shape[-1:], validate_args)

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        super()._expand_into(new, batch_shape)
        new.k, new.straight_through = self.k, self.straight_through

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        return KHotHull(self.k)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        keys = self.logits + gumbel_like(self.logits.expand(shape))
        relaxed = relaxed_top_k(keys, self.k, self.temperature.unsqueeze(-1))
        if not self.straight_through:
            return relaxed
        chosen = keys.detach().topk(self.k, -1).indices
        return straight_through(torch.zeros_like(keys).scatter(-1, chosen, 1.0), relaxed)

    @property
    def _interior(self) -> float:
        return self.k / self.event_shape[0]

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        return log_subset_probability(value, logits, self.k)

    @property
    def mean(self) -> Tensor:
        """The mean of straight-through values: the probability of each item to be in the subset."""
        if not self.straight_through:
            raise NotImplementedError(
                "RelaxedSubset: the mean of relaxed values is not known. That of k-hot values is with "
                "straight_through=True."
            )
        if self.event_shape[0] > MAX_MEAN_ITEMS:
            raise NotImplementedError(
                f"RelaxedSubset: the mean is computed for up to {MAX_MEAN_ITEMS} items, was given "
                f"{self.event_shape[0]}. Average samples."
            )
        return inclusion_probabilities(self.logits, self.k)

    @property
    def variance(self) -> Tensor:
        """The variance of straight-through values."""
        mean = self.mean
        return mean * (1 - mean)

    def entropy(self) -> Tensor:
        raise NotImplementedError(
            "RelaxedSubset: the entropy is not known; average -log_prob over samples."
        )


register_biased(RelaxedSubset)(lambda fn: fn.straight_through)
