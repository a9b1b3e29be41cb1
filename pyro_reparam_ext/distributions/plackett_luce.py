"""A random order of n items, hard or relaxed."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..noise import gumbel_like
from ..numerics.log_weighted_sum import log_weighted_sum
from ..numerics.other_sequences import Others, other_sequences
from ..numerics.straight_through import straight_through
from .mixins.held_score import HeldScore
from .mixins.parametric import Parametric, same_event_shape
from .rules.known_defects import register_biased
from .rules.temperatures import in_batch
from .rules.without_replacement import WithoutReplacement, register_without_replacement
from .supports.finite import finite_vector
from .supports.permutation_matrices import matrix_of, permutation_matrix, row_stochastic

MAX_ENUMERATED_ITEMS = 8
"""8! = 40,320 orders."""


class PlackettLuce(HeldScore, Parametric):
    r"""An order of n items, each place taken by one of those left, with odds :math:`e^{l_j}`.

    A value is the permutation matrix P whose row i is the indicator of the item at rank i, the first
    being row 0. It is the order of the keys :math:`z = l + G`, :math:`G_j \sim \mathrm{Gumbel}(0, 1)`,
    the largest first, and has the log probability

    .. math::
        \log p(P) = \sum_i \Big[ \sum_j P_{ij} l_j
            - \log \sum_j \Big(1 - \sum_{i' < i} P_{i'j}\Big)_+ e^{l_j} \Big],

    which is differentiable in P, also at permutation matrices, and defined for matrices whose rows sum
    to 1. Without a temperature values carry no gradient: a site of a guide is served by
    ``LeaveOneOut``, ``UnorderedSet`` and ``ScoreFunction``. With one, they are relaxed (SoftSort):

    .. math::
        P_{ij} = \mathrm{softmax}_j\big(-|z_{(i)} - z_j| / T\big), \qquad
        z_{(1)} \ge z_{(2)} \ge \cdots

    Rows sum to 1 and are largest at the item of their rank, as those of NeuralSort are, which takes the
    sums of all differences besides; columns sum to 1 as T falls. :meth:`log_prob` is not the
    density of a relaxed matrix, and an ELBO of relaxed matrices not a bound; its gradient in the guide
    is not that of the printed loss, but near that of the hard law's. At relaxed matrices and very
    unequal logits :math:`\log p` is ill-conditioned, since little of a heavy item weighs as much as a
    light one: with logits 0, 10, 20, 30 and T = 0.5 in float32 it may fall short of the log probability
    of the hard matrix by 25.

    An ELBO of Pyro's says nothing where a program indexes by a value of it or branches on it, and so
    loses the gradient.

    See also:
        :class:`RelaxedSubset`, the items at the first k ranks, without their order.

    References:
        Plackett, *The Analysis of Permutations*, 1975, https://doi.org/10.2307/2346567. Prillo,
        Eisenschlos, *SoftSort: A Continuous Relaxation for the argsort Operator*, 2020,
        https://arxiv.org/abs/2006.16038. Grover, Wang, Zweig, Ermon, *Stochastic Optimization of
        Sorting Networks via Continuous Relaxations*, 2019, https://arxiv.org/abs/1903.08850.

    Args:
        logits: :math:`l`, of shape (..., n), finite. To have an item last, give it a logit far below
            the others.
        temperature: :math:`T > 0`, of shape (...), or None.
        straight_through: with a temperature: whether values are permutation matrices, with the gradient
            of the relaxed ones.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: straight-through without a temperature; a parameter out of range, if validated.
        NotImplementedError: ``enumerate_support``, ``mean``, ``entropy`` or a KL divergence of more
            than 8 items or of relaxed matrices; ``rsample`` without a temperature.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> order = pre.distributions.PlackettLuce(torch.tensor([0.0, 2.0, 1.0]))
        >>> print(order.mode)
        tensor([[0., 1., 0.],
                [0., 0., 1.],
                [1., 0., 0.]])
        >>> print(order.log_prob(order.mode).exp())
        tensor(0.4863)
        >>> print(order.mean[0])  # the probabilities of the first rank
        tensor([0.0900, 0.6652, 0.2447])
    """

    _scored = row_stochastic

    def __init__(
        self,
        logits: Tensor,
        temperature: Tensor | float | None = None,
        *,
        straight_through: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        if not logits.dim():
            raise ValueError("PlackettLuce: expected logits of shape (..., n), was given a scalar.")
        if straight_through and temperature is None:
            raise ValueError(
                "PlackettLuce: straight_through=True needs the temperature of the relaxation."
            )
        temperature = in_batch("PlackettLuce", temperature, logits.shape, 1)
        self.temperature: Tensor | float | None = temperature
        self.straight_through = straight_through
        parameters: dict[str, Tensor | float] = {"logits": logits}
        if temperature is not None:
            parameters["temperature"] = temperature
        super().__init__(parameters, logits.shape[-1:] * 2, validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        given = {"logits": finite_vector}
        return given if self.temperature is None else {**given, "temperature": constraints.positive}

    @constraints.dependent_property(event_dim=2)
    def support(self) -> constraints.Constraint:
        return permutation_matrix if self._is_hard else row_stochastic

    @property
    def has_rsample(self) -> bool:
        return self.temperature is not None

    @property
    def has_enumerate_support(self) -> bool:
        return self._is_hard and self._items <= MAX_ENUMERATED_ITEMS

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        new.temperature, new.straight_through = None, self.straight_through
        super()._expand_into(new, batch_shape)

    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            if self.has_rsample:
                return self.rsample(sample_shape)
            return matrix_of(self._keys(sample_shape).argsort(-1, descending=True), self.logits.dtype)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        if not isinstance(self.temperature, Tensor):
            raise NotImplementedError(
                "PlackettLuce: permutation matrices have no pathwise gradient; give a temperature to "
                "relax them."
            )
        keys = self._keys(sample_shape)
        in_order, order = keys.sort(-1, descending=True)
        distance = (in_order.unsqueeze(-1) - keys.unsqueeze(-2)).abs()
        relaxed = (-distance / self.temperature[..., None, None]).softmax(-1)
        if not self.straight_through:
            return relaxed
        return straight_through(matrix_of(order, keys.dtype), relaxed)

    def _keys(self, sample_shape: Size | tuple[int, ...]) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))[:-1]
        return self.logits + gumbel_like(self.logits.expand(shape))

    @property
    def _interior(self) -> float:
        return 1 / self._items

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        return _log_prob(value, logits)

    @property
    def holds_score(self) -> bool:  # type: ignore[override]
        return self.has_rsample

    @property
    def mode(self) -> Tensor:
        """The most probable permutation matrix: logits in descending order."""
        return matrix_of(self.logits.argsort(-1, descending=True), self.logits.dtype)

    @property
    def mean(self) -> Tensor:
        """The probability of each rank (row) for each item (column)."""
        orders = self._orders("mean")
        matrices = matrix_of(orders, self.logits.dtype).flatten(-2)
        mean = self._log_prob_of(orders).exp() @ matrices
        return mean.reshape(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        mean = self.mean
        return mean * (1 - mean)

    def entropy(self) -> Tensor:
        log_p = self._log_prob_of(self._orders("entropy"))
        return -(log_p.exp() * log_p).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All n! permutation matrices, the orders of the items in lexicographic order."""
        matrices = matrix_of(self._orders("enumerate_support"), self.logits.dtype)
        matrices = matrices.reshape((-1,) + (1,) * len(self.batch_shape) + self.event_shape)
        return matrices.expand((-1,) + self.batch_shape + self.event_shape) if expand else matrices

    @property
    def _is_hard(self) -> bool:
        return self.temperature is None or self.straight_through

    @property
    def _items(self) -> int:
        return self.logits.shape[-1]

    def _orders(self, what: str) -> Tensor:
        """All orders of the items, shape (n!, n)."""
        if not self._is_hard:
            raise NotImplementedError(
                f"PlackettLuce: {what} is known for permutation matrices, not for relaxed ones. Give "
                f"no temperature, or straight_through=True."
            )
        if self._items > MAX_ENUMERATED_ITEMS:
            raise NotImplementedError(
                f"PlackettLuce: {what} takes all n! orders, of up to {MAX_ENUMERATED_ITEMS} items; was "
                f"given {self._items}. Average over samples."
            )
        return torch.tensor(list(permutations(range(self._items))), device=self.logits.device)

    def _log_prob_of(self, orders: Tensor) -> Tensor:
        """Shape (..., n!)."""
        logits = self.logits[..., orders]
        return (logits - logits.flip(-1).logcumsumexp(-1).flip(-1)).sum(-1)


def _log_prob(value: Tensor, logits: Tensor) -> Tensor:
    """The log probability of permutation matrices, extended to relaxed ones."""
    # Columns of relaxed matrices may have a sum above 1.
    left = (1 - (value.cumsum(-2) - value)).clamp(min=0)
    logits = logits.unsqueeze(-2)
    return ((value * logits).sum(-1) - log_weighted_sum(left, logits)).sum(-1)


@register_kl(PlackettLuce, PlackettLuce)
def _kl(p: PlackettLuce, q: PlackettLuce) -> Tensor:
    same_event_shape(p, q)
    orders = p._orders("the KL divergence")
    log_p, log_q = p._log_prob_of(orders), q._log_prob_of(orders)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


register_biased(PlackettLuce)(lambda fn: fn.straight_through)


def _others(fn: PlackettLuce, value: Tensor, count: int) -> Others:
    """Other orders, each a sequence of items."""
    logits = fn.logits
    items = torch.arange(fn._items, device=logits.device)

    def leaving(order: Tensor) -> Tensor:
        chosen = order.unsqueeze(-1) == items
        taken = chosen.cumsum(-2) > 0  # by the end of each step
        by_step = logits.unsqueeze(-2)
        total = by_step.masked_fill(taken & ~chosen, -math.inf).logsumexp(-1)
        kept = logits.gather(-1, order) - total
        path = kept.cumsum(-1) - kept - total
        return (by_step + path.unsqueeze(-1)).masked_fill(taken, -math.inf)

    def complete(order: Tensor) -> Tensor:
        known = order.unsqueeze(-1) == items
        keys = logits + gumbel_like(logits)
        place = fn._items + keys.argsort(-1, descending=True).argsort(-1)
        # Items whose place is known come before all others.
        place = torch.where(known.any(-2), (known * items.unsqueeze(-1)).sum(-2), place)
        return place.argsort(-1)

    others = other_sequences(value.argmax(-1), leaving, complete, count)
    return others._replace(values=matrix_of(others.values, value.dtype))


register_without_replacement(PlackettLuce)(
    WithoutReplacement(lambda fn: math.factorial(fn._items), _others, lambda fn: not fn.has_rsample)
)
