"""Provenance that also follows a program's control flow.

Pyro's provenance follows tensors. It ends where a program turns a tensor into a Python number, to
branch on it or to index a list: from there on everything may depend on the sites behind that tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, extract_provenance, get_provenance
from torch import Tensor
from torch.utils._pytree import tree_map

from ..distributions.rules.copies import mapped

READS = frozenset(
    [
        *(
            getattr(Tensor, name)
            for name in (
                *("item", "tolist", "numpy", "equal", "allclose", "is_nonzero"),
                *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"),
                *("__contains__", "nonzero", "argwhere", "unique", "masked_select"),
            )
        ),
        *(torch.equal, torch.allclose, torch.is_nonzero),
        *(torch.nonzero, torch.argwhere, torch.unique, torch.masked_select),
    ]
)
"""Functions that make a Python number, or a shape, of values."""
_OF_SHAPES = frozenset(
    [
        *(torch.zeros_like, torch.ones_like, torch.empty_like, torch.rand_like, torch.randn_like),
        *(Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty),
    ]
)
"""Functions that depend on the shape of their argument alone."""
_LIBRARY = ("torch.distributions", "pyro.", "pyro_reparam_ext.")
"""Modules that read values to validate them, not to branch on them."""
_BETWEEN = ("torch._", "torch.overrides", "numpy")
"""Modules that read a value for the program that called them."""


@dataclass(eq=False)
class ControlFlow:
    """The sites behind all tensors that a program has read as numbers, and the lines that first did.

    ``noisy``: whether something of the model is drawn anew in each run: its own latent sites, or noise
    of layers that a context of the package makes draw some.
    """

    sites: frozenset[str] = frozenset()
    lines: dict[str, str] = field(default_factory=dict)
    noisy: bool = False

    def track(self, value: Tensor, names: frozenset[str]) -> Tensor:
        """``value``, with the sites ``names`` added to its provenance."""
        return _wrapped(detach_provenance(value), get_provenance(value) | names, self)

    def read(self, names: frozenset[str], line: str) -> None:
        """Notes that ``line`` made a number of a value that depends on the sites ``names``."""
        self.sites |= names
        for name in names:
            self.lines.setdefault(name, line)


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
        provenance: frozenset[str] = sources[0]._provenance.union(*(x._provenance for x in sources[1:]))
        control = next(x._control for x in sources if isinstance(x, TrackedTensor))
        if func in READS and (line := _line_of_program(sys._getframe(1))):
            control.read(provenance, line)
        result = func(*plain_args, **plain_kwargs)
        if func in _OF_SHAPES:
            return result
        if isinstance(result, Tensor):
            return _wrapped(result, provenance, control)
        if isinstance(result, torch.Size) or not isinstance(result, (tuple, list, dict)):
            return result
        return tree_map(lambda x: _wrapped(x, provenance, control), result)


def _line_of_program(frame: FrameType | None) -> str | None:
    """File and line that called into torch; None if it is of a library that validates."""
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__", "").startswith(_LIBRARY):
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


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


def untracked(x: Any) -> Any:
    """A tensor without its provenance; anything else as it is."""
    return extract_provenance(x)[0] if isinstance(x, ProvenanceTensor) else x


def provenance_of(x: Any) -> frozenset[str]:
    """The sites that a tensor is known to depend on: for single ones faster than Pyro's."""
    return x._provenance if isinstance(x, ProvenanceTensor) else _NONE


_NONE: frozenset[str] = frozenset()


def _wrapped(x: Any, provenance: frozenset[str], control: ControlFlow) -> Any:
    if not isinstance(x, Tensor) or isinstance(x, ProvenanceTensor) or not provenance:
        return x
    tracked = TrackedTensor(x, provenance)
    tracked._control = control
    return tracked


def without_provenance(x: Any, names: frozenset[str] | None = None) -> tuple[Any, frozenset[str]]:
    """A distribution with plain tensors for parameters, and the provenance that these had.

    Of given ``names`` only; others stay.
    """
    removed: set[str] = set()

    def plain(x: Tensor) -> Tensor:
        if not isinstance(x, ProvenanceTensor):
            return x
        inside, provenance = extract_provenance(x)
        kept = provenance - names if names is not None else _NONE
        removed.update(provenance - kept)
        return ProvenanceTensor(inside, kept) if provenance != kept else x

    return mapped(x, plain), frozenset(removed)
