"""Independent bits, given how many of them are ones: a random subset of k of n items."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..noise import logistic_like
from ..numerics.bernoulli_sum import (
    IMPOSSIBLE,
    bits_given_sum,
    inclusion_logits,
    log_counts,
    log_probs_of_bits,
    noise_of_bits,
    other_bits,
)
from ..numerics.other_sequences import Others
from ..numerics.relaxation import floating
from ..numerics.shapes import broadcast_shapes
from ..numerics.sigmoid import sigmoid
from .mixins.parametric import Parametric, as_tensors, same_event_shape
from .mixins.probs_or_logits import one_of
from .rules.coupling import Parameters, register_parameters
from .rules.half_precision import drawn_in_single
from .rules.noise_map import NoiseMap, register_noise_map
from .rules.on_support import on_support
from .rules.without_replacement import WithoutReplacement, register_without_replacement
from .supports.k_hot import KHot

MAX_ENUMERATED_SUBSETS = 100_000
"""The largest support that is written out; 20 choose 7 is 77,520."""


class ConditionalBernoulli(Parametric):
    r"""A subset of k of n items: independent Bernoulli variables, given that k of them are ones.

    .. math::
        p(z) = \frac{e^{\sum_i l_i z_i}}{e_k(e^{l_1}, \dots, e^{l_n})}, \qquad
        z \in \{0, 1\}^n, \quad \sum_i z_i = k,

    with the elementary symmetric polynomial :math:`e_k` of degree k. Adding one number to all logits
    changes nothing. Density, marginals, entropy and divergences are exact, by recursions in log space
    that take n steps on k + 1 numbers; a draw takes n steps more.

    It is not the law of k draws without replacement, which is that of :class:`RelaxedSubset`. Values
    carry no pathwise gradient: a site of a guide is served by ``LeaveOneOut``, which is SFESS here,
    ``UnorderedSet``, ``ScoreFunction`` and, where there are few subsets, ``Enumeration``; with a bias,
    by ``SIMPLE``.

    See also:
        :class:`RelaxedSubset`, drawn without replacement, with a relaxed gradient.

    References:
        Chen, Liu, *Statistical Applications of the Poisson-Binomial and Conditional Bernoulli
        Distributions*, 1997, Statistica Sinica 7. Ahmed, Zeng, Niepert, Van den Broeck, *SIMPLE: A
        Gradient Estimator for k-Subset Sampling*, 2023, https://arxiv.org/abs/2210.01941. Wijk,
        Vinuesa, Azizpour, *SFESS: Score Function Estimators for k-Subset Sampling*, 2025,
        https://arxiv.org/abs/2407.16058.

    Args:
        total_count: k, from 0 to n, the same for the whole batch.
        probs: the probability of each item without the condition, of shape (..., n), in [0, 1].
        logits: :math:`l`, of shape (..., n). An item with minus infinity is never in the subset, one
            with infinity always.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: k is not between 0 and n; not exactly one of ``probs`` and ``logits`` is given; with
            validation on, a parameter is out of range, or infinite logits leave no subset of k items.
        NotImplementedError: ``enumerate_support`` of more than 100,000 subsets; ``rsample``.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
        >>> subset = pre.distributions.ConditionalBernoulli(2, logits=logits)
        >>> print(subset.marginals)  # the probability of each item to be in the subset
        tensor([0.1192, 0.3056, 0.6944, 0.8808])
        >>> print(subset.log_prob(torch.tensor([0.0, 0.0, 1.0, 1.0])).exp())
        tensor(0.5859)
        >>> print(subset.entropy())
        tensor(1.1977)
    """

    arg_constraints = {"logits": constraints.real_vector}

    def __init__(
        self,
        total_count: int,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        name, given = one_of("ConditionalBernoulli", probs, logits)
        param = as_tensors({name: given})[name]
        items = param.shape[-1] if param.dim() else 0
        if not 0 <= total_count <= items or not param.dim():
            raise ValueError(
                f"ConditionalBernoulli: expected {name} of shape (..., n) and a total_count from 0 to "
                f"n, was given total_count = {total_count} and {name} of shape {tuple(param.shape)}."
            )
        self.total_count = total_count
        validate = self._validate_args if validate_args is None else validate_args
        if name == "probs":
            if validate and not torch._is_all_true((param >= 0) & (param <= 1)):
                raise ValueError(
                    f"ConditionalBernoulli: expected probs within [0, 1], was given {param}."
                )
            param = _logits_of(param)
        super().__init__({"logits": param}, param.shape[-1:], validate_args)
        if validate:
            self._check_feasible()

    def _check_feasible(self) -> None:
        always, possible = (self.logits == math.inf).sum(-1), (self.logits > -math.inf).sum(-1)
        if not torch._is_all_true((always <= self.total_count) & (possible >= self.total_count)):
            raise ValueError(
                f"ConditionalBernoulli: no subset has total_count = {self.total_count} items; expected "
                f"logits of which at most so many are infinity, and at least so many above minus "
                f"infinity (probabilities of 1 and above 0), was given logits {self.logits}."
            )

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        super()._expand_into(new, batch_shape)
        new.total_count = self.total_count

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return KHot(self.total_count)

    @property
    def has_enumerate_support(self) -> bool:
        return self.support_size <= MAX_ENUMERATED_SUBSETS

    @drawn_in_single
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            noise = logistic_like(self.logits.expand(shape))
            return bits_given_sum(*self._log_probs_of_bits(), self.total_count, noise)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        raise NotImplementedError(
            "ConditionalBernoulli: subsets have no pathwise gradient. Use LeaveOneOut, "
            "UnorderedSet, ScoreFunction or Enumeration for the site."
        )

    def log_prob(self, value: Tensor) -> Tensor:
        value = floating(value, self.logits)
        if self._validate_args:
            self._validate_sample(value)
        return on_support(self, value, lambda fn, x: fn._log_density(x))

    @property
    def _interior(self) -> float:
        return self.total_count / self.event_shape[0]

    def _log_density(self, value: Tensor) -> Tensor:
        log_one, log_zero = self._log_probs_of_bits()
        scored = (value * log_one + (1 - value) * log_zero).sum(-1)
        log_prob = scored - self._log_total(log_one, log_zero)
        return torch.where(scored <= IMPOSSIBLE / 2, -math.inf, log_prob)

    @property
    def marginals(self) -> Tensor:
        """The probability of each item to be in the subset, differentiable in the logits."""
        return sigmoid(self._inclusion_logits())

    @property
    def mean(self) -> Tensor:
        return self.marginals

    @property
    def variance(self) -> Tensor:
        logits = self._inclusion_logits()
        return sigmoid(logits) * sigmoid(-logits)

    @property
    def mode(self) -> Tensor:
        """The items of the k largest logits."""
        chosen = self.logits.topk(self.total_count, -1).indices
        return torch.zeros_like(self.logits).scatter(-1, chosen, 1.0)

    def entropy(self) -> Tensor:
        return -self._mean_log_prob(self)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All subsets, in lexicographic order of their items."""
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"ConditionalBernoulli: enumerate_support writes out up to {MAX_ENUMERATED_SUBSETS:,} "
                f"subsets; {self.total_count} of {self._items} items have {self.support_size:,}. Draw "
                f"samples; marginals, entropy and KL divergences are exact without it."
            )
        items = list(combinations(range(self._items), self.total_count))
        chosen = torch.tensor(items, dtype=torch.long, device=self.logits.device)
        subsets = self.logits.new_zeros(len(items), self._items).scatter(-1, chosen, 1.0)
        subsets = subsets.reshape((-1,) + (1,) * len(self.batch_shape) + self.event_shape)
        return subsets.expand((-1,) + self.batch_shape + self.event_shape) if expand else subsets

    @property
    def support_size(self) -> int:
        """The number of subsets, n choose k."""
        return math.comb(self._items, self.total_count)

    @property
    def _items(self) -> int:
        return self.logits.shape[-1]

    def _log_probs_of_bits(self) -> tuple[Tensor, Tensor]:
        """Logits shifted so that about k ones are likely: a shift leaves the law as it is."""
        k = self.total_count
        around = self.logits.detach().sort(-1, descending=True).values[..., max(k - 1, 0) : k + 1]
        finite = around.isfinite()
        shift = torch.where(finite, around, 0.0).sum(-1) / finite.sum(-1).clamp(min=1)
        return log_probs_of_bits(self.logits - shift.unsqueeze(-1))

    def _log_total(self, log_one: Tensor, log_zero: Tensor) -> Tensor:
        return log_counts(log_one, log_zero, self.total_count)[..., -1, -1]

    def _inclusion_logits(self) -> Tensor:
        return inclusion_logits(*self._log_probs_of_bits(), self.total_count)

    def _mean_log_prob(self, of: ConditionalBernoulli) -> Tensor:
        """The mean of the log probability of another one of as many items, by the marginals."""
        log_one, log_zero = of._log_probs_of_bits()
        logits = self._inclusion_logits()
        included, excluded = sigmoid(logits), sigmoid(-logits)
        mean = included * log_one + excluded * log_zero
        never = torch.where(log_one == IMPOSSIBLE, included, 0.0)
        never = never + torch.where(log_zero == IMPOSSIBLE, excluded, 0.0)
        mean = torch.where(never > 0, -math.inf, mean)
        return mean.sum(-1) - of._log_total(log_one, log_zero)


def _logits_of(probs: Tensor) -> Tensor:
    """Infinite where a probability is 0 or 1, and there without a gradient."""
    finfo = torch.finfo(probs.dtype)
    inside = probs.clamp(finfo.tiny, 1 - finfo.eps / 2)
    logits = inside.log() - (-inside).log1p()
    logits = torch.where(probs == 0, -math.inf, logits)
    return torch.where(probs == 1, math.inf, logits)


@register_kl(ConditionalBernoulli, ConditionalBernoulli)
def _kl(p: ConditionalBernoulli, q: ConditionalBernoulli) -> Tensor:
    same_event_shape(p, q)
    if p.total_count != q.total_count:
        raise ValueError(
            f"KL divergence between ConditionalBernoulli of total_count {p.total_count} and of "
            f"{q.total_count}: expected the same, no value of one is a value of the other."
        )
    return p._mean_log_prob(p) - p._mean_log_prob(q)


@register_parameters(ConditionalBernoulli)
def _parameters(fn: ConditionalBernoulli) -> Parameters:
    return [(fn.logits, 1), (fn.total_count, 0)]


def _forward(fn: ConditionalBernoulli, noise: Tensor) -> Tensor:
    shape = broadcast_shapes(noise.shape, fn.batch_shape + fn.event_shape)
    return bits_given_sum(*fn._log_probs_of_bits(), fn.total_count, noise.expand(shape))


def _inverse(fn: ConditionalBernoulli, value: Tensor) -> Tensor:
    value = value.expand(broadcast_shapes(value.shape, fn.batch_shape + fn.event_shape))
    return noise_of_bits(*fn._log_probs_of_bits(), fn.total_count, value, logistic_like(value))


def _law(fn: ConditionalBernoulli) -> TorchDistribution:
    zeros = torch.zeros_like(fn.logits.detach()).expand(fn.batch_shape + fn.event_shape)
    return dist.Logistic(zeros, 1.0).to_event(1)


register_noise_map(ConditionalBernoulli)(NoiseMap(_law, _forward, _inverse))


def _others(fn: ConditionalBernoulli, value: Tensor, count: int) -> Others:
    return other_bits(*fn._log_probs_of_bits(), fn.total_count, value, count)


register_without_replacement(ConditionalBernoulli)(
    WithoutReplacement(lambda fn: fn.support_size, _others)
)
