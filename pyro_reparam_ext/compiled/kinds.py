"""Which arguments one graph serves."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

VALUES = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
"""What is the same as long as it is equal."""


def key_of(around: Hashable, args: tuple, kwargs: dict[str, Any]) -> Hashable:
    """A key of arguments, and of what is ``around`` them; one graph serves those of equal keys."""
    if not kwargs and all(type(x) is Tensor for x in args):
        return (around, *map(_kind, args))
    flat, spec = tree_flatten((args, kwargs))
    return (around, spec, *map(_kind, flat))


def _kind(x: Any) -> Hashable:
    if isinstance(x, Tensor):
        return x.shape, x.dtype, x.stride(), x.device, x.requires_grad
    return (type(x), x) if isinstance(x, VALUES) else (type(x),)


def difference(before: Any, after: Any) -> str:
    """The first difference between two keys, in words."""
    for a, b in zip(before[1:], after[1:], strict=False):
        if a != b:
            return f"an argument {a!r} became {b!r}"
    if before[0] != after[0]:
        return "parameters, training modes, settings, or numbers that the program reads"
    return "the number of arguments"
