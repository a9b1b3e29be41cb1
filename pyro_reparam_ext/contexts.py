"""Values that hold while something runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Holding(AbstractContextManager[None], Generic[T]):
    """The variable has this value inside."""

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self.variable, self.value = variable, value

    def __enter__(self) -> None:
        self.token = self.variable.set(self.value)

    def __exit__(self, *exception: Any) -> None:
        self.variable.reset(self.token)
