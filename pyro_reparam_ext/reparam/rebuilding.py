"""A distribution's parameters for another one."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def unchecked(fn: Any, cls: Any, **parameters: Any) -> Any:
    """``cls`` with parameters that ``fn`` has checked, or was told not to check."""
    new = cls(**parameters, validate_args=False)
    new._validate_args = fn._validate_args
    return new


def given(fn: Any) -> dict[str, Tensor]:
    """Of ``probs`` and ``logits`` the one that ``fn`` was made with; the other may be less precise."""
    holder = getattr(fn, "_categorical", fn)
    name = "probs" if vars(holder).get("probs") is holder._param else "logits"
    return {name: holder._param}
