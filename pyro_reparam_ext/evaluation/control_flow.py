"""Which sample sites a program's control flow depends on.

Provenance follows tensors. It ends where a program turns a tensor into a Python number, to branch on
it or to index a list: from there on everything may depend on the sites behind that tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyro.ops.provenance import get_provenance
from torch import Tensor
from torch.overrides import TorchFunctionMode

_READS = frozenset(
    getattr(Tensor, name)
    for name in (
        *("item", "tolist", "numpy"),
        *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"),
    )
)
_LIBRARY = ("torch.distributions", "pyro.")
"""Modules that read values to validate them, not to branch on them."""


class ControlFlow(TorchFunctionMode):
    """Collects in ``sites`` the provenance of every tensor that the program reads as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: frozenset[str] = frozenset()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _READS:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not caller.startswith(_LIBRARY):
                self.sites |= get_provenance(args)
        return func(*args, **(kwargs or {}))
