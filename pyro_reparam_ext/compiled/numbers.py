"""The numbers that a program reads in Python, which are constants of a graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from types import CellType, FunctionType, ModuleType
from typing import Any

from torch import nn

from ..callers import is_of_the_user
from ..evaluation.invisible import LONG, reached_from


@dataclass(frozen=True, eq=False)
class Number:
    """A number or a string in a closure, a global variable, an attribute, a list or a dict."""

    name: str
    holder: Any
    key: Hashable

    @property
    def value(self) -> Any:
        """The value at the moment; None if it is gone."""
        try:
            return self.holder.cell_contents if self.key is CellType else self.holder[self.key]
        except (ValueError, KeyError, IndexError):
            return None


def numbers_of(*programs: Callable[..., Any]) -> list[Number]:
    """Those that the programs reach, in functions and objects of the user's, and in themselves."""
    found: list[Number] = []
    for variable in _variables(programs):
        value = variable.value
        if isinstance(value, _KINDS):
            found.append(variable)
        elif type(value) in (list, dict) and len(value) <= LONG:
            keys = list(value) if isinstance(value, dict) else range(len(value))
            items = (Number(f"{variable.name}[{k!r}]", value, k) for k in keys)
            found += [item for item in items if isinstance(item.value, _KINDS)]
    return found


def lists_of(*programs: Callable[..., Any]) -> dict[str, int]:
    """The lengths of their lists, dicts and sets, by name."""
    named = ((variable.name, variable.value) for variable in _variables(programs))
    return {name: len(x) for name, x in named if type(x) in (list, dict, set)}


def _variables(programs: tuple[Callable[..., Any], ...]) -> Iterator[Number]:
    """Variables and attributes, whatever they are; each once."""
    met: set[tuple[int, Hashable]] = set()
    for x in reached_from(programs):
        is_program = any(x is program for program in programs)
        own = _of_function(x) if isinstance(x, FunctionType) else _of_object(x, is_program)
        for number in own:
            if (id(number.holder), number.key) not in met:
                met.add((id(number.holder), number.key))
                yield number


def _of_function(f: FunctionType) -> Iterator[Number]:
    if is_of_the_user(f):
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            yield Number(f"'{name}' of {f.__qualname__}", cell, CellType)
        for name in f.__code__.co_names:
            if name in f.__globals__:
                yield Number(f"'{name}'", f.__globals__, name)


def _of_object(x: Any, is_program: bool) -> Iterator[Number]:
    """Attributes; of a library's object those that a user may set: the public ones of a module."""
    users = is_of_the_user(x)
    settable = is_program or isinstance(x, nn.Module) and not type(x).__module__.startswith("torch.")
    if isinstance(x, (type, ModuleType)) or not (users or settable):
        return
    for name in getattr(x, "__dict__", {}):
        if name != "training" and (users or name[0] != "_"):
            yield Number(f"'{name}' of a {type(x).__name__}", vars(x), name)


_KINDS = (bool, int, float, str)
