"""Provenance that also follows a program's control flow.

Pyro's provenance follows tensors. It ends where a program turns a tensor into a Python number, to
branch on it or to index a list: from there on everything may depend on the sites behind that tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.ops.provenance import (
    ProvenanceTensor,
    detach_provenance,
    extract_provenance,
    get_provenance,
)
from torch import Tensor
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


def _plain(x: ProvenanceTensor) -> Tensor:
    """The tensor inside, with the gradient of what an autograd function has returned.

    These are not dispatched: they take and return the outer tensor, and the inner one, computed
    without a graph, knows nothing of the gradient.
    """
    if not x._t.requires_grad:
        with torch._C.DisableTorchFunctionSubclass():
            if x.requires_grad:
                return x.as_subclass(Tensor)
    return x._t


@extract_provenance.register(TrackedTensor)
def _extract(x: TrackedTensor) -> tuple[Tensor, frozenset[str]]:
    return _plain(x), x._provenance


def _stripped(x: Any, sources: list[ProvenanceTensor]) -> Any:
    """``x`` with plain tensors; those that had provenance are added to ``sources``."""
    if isinstance(x, ProvenanceTensor):
        sources.append(x)
        return _plain(x)
    if type(x) in (list, tuple):
        return type(x)([_stripped(part, sources) for part in x])
    return x


def _wrapped(x: Any, provenance: frozenset[str], control: ControlFlow) -> Any:
    if not isinstance(x, Tensor) or isinstance(x, ProvenanceTensor) or not provenance:
        return x
    tracked = TrackedTensor(x, provenance)
    tracked._control = control
    return tracked
