"""Running a program with other tensors in place of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.overrides import TorchFunctionMode


def _cross_entropy(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    """Cross entropy in three passes over memory; ``vmap`` decomposes torch's own into eight."""
    given = {key: option for key, option in options.items() if option is not None}
    if given != {"reduction": "none"}:
        return binary_cross_entropy_with_logits(logits, target, **given)
    return softplus(logits) - target * logits


_BATCHED: dict[Callable[..., Any], Callable[..., Tensor]] = {
    Tensor.normal_: lambda x, mean=0.0, std=1.0: mean + std * torch.randn_like(x),
    Tensor.uniform_: lambda x, low=0.0, high=1.0: low + (high - low) * torch.rand_like(x),
    Tensor.exponential_: lambda x, lambd=1.0: -(1 - torch.rand_like(x)).log() / lambd,
    Tensor.cauchy_: lambda x, median=0.0, sigma=1.0: (
        median + sigma * (torch.pi * (torch.rand_like(x) - 0.5)).tan()
    ),
    binary_cross_entropy_with_logits: _cross_entropy,
}


class Substitution(TorchFunctionMode):
    """While entered, every torch function sees ``replacements[id(x)]`` in place of ``x``.

    It reaches parameters wherever they are kept: in the parameter store, in a module, in a closure.
    Functions that ``vmap`` can't batch, or not well, are replaced by equal ones that it can: in-place
    random fills of new tensors by out-of-place ones, the cross entropy of Bernoulli likelihoods.
    """

    def __init__(self, replacements: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.replacements = replacements

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        args = tuple(self._replaced(x) for x in args)
        kwargs = {key: self._replaced(x) for key, x in (kwargs or {}).items()}
        return _BATCHED.get(func, func)(*args, **kwargs)

    def _replaced(self, x: object) -> object:
        if isinstance(x, Tensor):
            return self.replacements.get(id(x), x)
        if type(x) is list:
            return [self._replaced(y) for y in x]
        if type(x) is tuple:
            return tuple(self._replaced(y) for y in x)
        return x
