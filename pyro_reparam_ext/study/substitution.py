"""Running many draws of a program at once, with other tensors in place of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ..numerics.substitution import Substitution


def _cross_entropy(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    """Cross entropy in three passes over memory; ``vmap`` decomposes torch's own into eight."""
    given = {key: option for key, option in options.items() if option is not None}
    if given != {"reduction": "none"}:
        return binary_cross_entropy_with_logits(logits, target, **given)
    return softplus(logits) - target * logits


_NEW: frozenset[Callable[..., Any]] = frozenset(
    (torch.empty, torch.empty_like, Tensor.new, Tensor.new_empty, torch.zeros, torch.zeros_like)
)
"""Functions that return a tensor with memory of its own."""

_FILLS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    Tensor.normal_: lambda x, mean=0.0, std=1.0: mean + std * torch.randn_like(x),
    Tensor.uniform_: lambda x, low=0.0, high=1.0: low + (high - low) * torch.rand_like(x),
    Tensor.exponential_: lambda x, lambd=1.0: -(1 - torch.rand_like(x)).log() / lambd,
    Tensor.cauchy_: lambda x, median=0.0, sigma=1.0: (
        median + sigma * (torch.pi * (torch.rand_like(x) - 0.5)).tan()
    ),
}
"""Fills of a tensor that is the same for all draws, which ``vmap`` refuses, out of place."""


class BatchedDraws(Substitution):
    """A substitution under which a program can be batched by ``vmap``, so that draws are independent.

    Functions that ``vmap`` can't batch, or not well, are replaced by equal ones that it can: the cross
    entropy of Bernoulli likelihoods, and random fills of new tensors, which from then on stand for what
    they were filled with. A tensor made elsewhere, as a buffer, is filled in place, by which one draw
    may act on the next: that ``vmap`` refuses it is right.
    """

    def __init__(self, replacements: Mapping[int, Tensor]) -> None:
        super().__init__(replacements)
        self._new: dict[int, Tensor] = {}  # and alive, as an id may be taken again

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        target = id(args[0]) if args else None
        args = self.replaced(args)
        kwargs = {key: self.replaced(x) for key, x in (kwargs or {}).items()}
        if func is binary_cross_entropy_with_logits:
            return _cross_entropy(*args, **kwargs)
        if func in _FILLS and target in self._new:
            self.replacements[target] = _FILLS[func](*args, **kwargs)
            return self.replacements[target]
        result = func(*args, **kwargs)
        if func in _NEW:
            self._new[id(result)] = result
        return result
