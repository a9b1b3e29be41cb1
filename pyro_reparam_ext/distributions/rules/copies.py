"""A distribution made from the parameters of another one."""

from __future__ import annotations

from typing import Any


def unchecked(fn: Any, cls: Any, **parameters: Any) -> Any:
    """``cls`` with parameters that ``fn`` has checked, or was told not to check."""
    new = cls(**parameters, validate_args=False)
    new._validate_args = fn._validate_args
    return new
