"""A substitution of tensors: a program runs with others in place of some of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_REQUIRES_GRAD = Tensor.requires_grad.__get__  # type: ignore[attr-defined]
"""By which programs tell what is a parameter: whatever takes its place, it still is."""


class Substitution(TorchFunctionMode):
    """While entered, every torch function sees ``replacements[id(x)]`` in place of ``x``.

    It reaches parameters wherever they are kept: in the parameter store, in a module, in a closure.
    """

    def __init__(self, replacements: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.replacements = dict(replacements)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        if func == _REQUIRES_GRAD:
            return func(*args)
        return func(*self.replaced(args), **{k: self.replaced(x) for k, x in (kwargs or {}).items()})

    def replaced(self, x: Any) -> Any:
        """The tensors that functions see in place of an argument, or of what is in a list or tuple."""
        if isinstance(x, Tensor):
            return self.replacements.get(id(x), x)
        if type(x) in (list, tuple):
            return type(x)([self.replaced(y) for y in x])
        return x
