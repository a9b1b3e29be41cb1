"""Provenance that also follows a program's control flow.

Pyro's provenance follows tensors. It ends where a program turns a tensor into a Python number, to
branch on it or to index a list: from there on everything may depend on the sites behind that tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from pyro.ops.provenance import (
    ProvenanceTensor,
    detach_provenance,
    extract_provenance,
    get_provenance,
)
from torch import Tensor, nn
from torch.utils._pytree import tree_map

_READS = frozenset(
    getattr(Tensor, name)
    for name in (
        *("item", "tolist", "numpy"),
        *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"),
    )
)
_LIBRARY = ("torch.distributions", "pyro.")
"""Modules that read values to validate them, not to branch on them."""


@dataclass(eq=False)
class ControlFlow:
    """The sites behind all tensors that a program has read as numbers."""

    sites: frozenset[str] = frozenset()

    def track(self, value: Tensor, names: frozenset[str]) -> Tensor:
        """``value``, with the sites ``names`` added to its provenance."""
        return _wrapped(detach_provenance(value), get_provenance(value) | names, self)


class TrackedTensor(ProvenanceTensor):
    """A tensor with provenance that reports to a :class:`ControlFlow` when it is read."""

    _control: ControlFlow

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        sources: list[ProvenanceTensor] = []
        plain_args = [_stripped(x, sources) for x in args]
        plain_kwargs = {key: _stripped(x, sources) for key, x in (kwargs or {}).items()}
        provenance: frozenset[str] = frozenset().union(*(x._provenance for x in sources))
        control = next(x._control for x in sources if isinstance(x, TrackedTensor))
        if func in _READS:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not caller.startswith(_LIBRARY):
                control.sites |= provenance
        result = func(*plain_args, **plain_kwargs)
        if isinstance(result, torch.Size):
            return result
        if isinstance(result, Tensor):
            return _wrapped(result, provenance, control)
        return tree_map(lambda x: _wrapped(x, provenance, control), result)


def _stripped(x: Any, sources: list[ProvenanceTensor]) -> Any:
    """``x`` with plain tensors; those that had provenance are added to ``sources``."""
    if isinstance(x, ProvenanceTensor):
        sources.append(x)
        return x._t
    if type(x) in (list, tuple):
        return type(x)([_stripped(part, sources) for part in x])
    return x


def _wrapped(x: Any, provenance: frozenset[str], control: ControlFlow) -> Any:
    if not isinstance(x, Tensor) or isinstance(x, ProvenanceTensor) or not provenance:
        return x
    tracked = TrackedTensor(x, provenance)
    tracked._control = control
    return tracked


def without_provenance(x: Any, inside: frozenset[int] = frozenset()) -> tuple[Any, frozenset[str]]:
    """A distribution with plain tensors for parameters, and the provenance that these had.

    Looks into the distributions, transforms and lists that it is made of, except those that it is
    already ``inside`` of: a transform and its inverse know each other.
    """
    if isinstance(x, ProvenanceTensor):
        return extract_provenance(x)
    if type(x) in (list, tuple):
        cleaned = [without_provenance(part, inside) for part in x]
        provenance = frozenset().union(*(inherited for _, inherited in cleaned))
        return (type(x)(part for part, _ in cleaned) if provenance else x), provenance
    parts = (torch.distributions.Distribution, torch.distributions.Transform)
    if not isinstance(x, parts) or isinstance(x, nn.Module) or id(x) in inside:
        return x, frozenset()
    clean, provenance = {}, frozenset()
    for key, attribute in vars(x).items():
        clean[key], inherited = without_provenance(attribute, inside | {id(x)})
        provenance |= inherited
    if not provenance:
        return x, provenance
    x = copy(x)
    vars(x).update(clean)
    return x, provenance
