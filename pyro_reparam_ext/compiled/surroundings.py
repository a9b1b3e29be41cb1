"""The surroundings of a step: all that it depends on beside its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pyro
import torch
from pyro import settings
from pyro.poutine.runtime import _PYRO_STACK

from ..evaluation.invisible import modules_of
from .numbers import lists_of, numbers_of

MET = 100
"""Surroundings that are remembered: each step may have others, in a context that is made anew."""


class Surroundings:
    """Pyro's handlers and settings, the default dtype, training modes, parameters, numbers in Python.

    Looked at in each step: read where they are kept, which takes some microseconds.
    """

    def __init__(self, *programs: Callable[..., Any]) -> None:
        self._programs = programs
        self._ignored: set[str] = set()
        self._modules = modules_of(*programs)
        self._leaves = [p for x in self._modules for p in x._parameters.values() if p is not None]
        self._numbers = numbers_of(*programs)
        self._settings = [_place(*entry[:2]) for entry in settings._REGISTRY.values()]
        self._met: dict[int, Any] = {}
        self._now: Any = None
        self._count = 0
        self.number = -1
        """Numbers those that were met."""

    def kept(self) -> dict[str, Any]:
        """The numbers that the programs keep in Python, and the lengths of their lists."""
        found = {number.name: number.value for number in self._numbers} | lists_of(*self._programs)
        return {name: x for name, x in found.items() if name not in self._ignored}

    def changed(self, before: dict[str, Any]) -> list[str]:
        """The names for which :meth:`kept` gave another value before."""
        now = self.kept()
        return sorted(name for name in before if before[name] != now.get(name))

    def ignore(self, names: Sequence[str]) -> None:
        """Looks no more at what the programs change themselves."""
        self._ignored.update(names)
        self._numbers = [number for number in self._numbers if number.name not in self._ignored]

    def look(self) -> None:
        """Finds out which ones there are now."""
        now = (
            torch.get_default_dtype(),
            [getattr(owner, name) for owner, name in self._settings],
            [module.training for module in self._modules],
            [p.requires_grad for p in self._leaves],
            [number.value for number in self._numbers],
            list(map(id, pyro.get_param_store()._params.values())),
            [_parts(handler) for handler in _PYRO_STACK],
        )
        if now == self._now:
            return
        self._now = now
        known = (number for number, met in self._met.items() if met == now)
        self.number = next(known, self._count)
        if self.number == self._count:
            self._count += 1
            self._met[self.number] = now
            if len(self._met) > MET:
                del self._met[min(self._met)]


@dataclass(frozen=True, eq=False)
class _Object:
    """Equal to itself, and alive, so that no other takes its ``id``."""

    x: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Object) and other.x is self.x


def _parts(handler: Any) -> list[Any]:
    """The attributes of a handler on which its acting depends; not those that it keeps to itself."""
    parts: list[Any] = [type(handler)]
    for key, x in vars(handler).items():
        if key.startswith("_"):
            continue
        if x is None or isinstance(x, (bool, int, float, str)):
            parts.append((key, x))
        elif isinstance(x, dict):
            parts.append((key, [(k, _Object(y)) for k, y in x.items()]))
        else:
            parts.append((key, _Object(x)))
    return parts


def _place(module: str, name: str) -> tuple[Any, str]:
    """The object that has a setting, and the attribute."""
    owner: Any = import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, last
