"""What a step depends on beside its arguments."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pyro
import torch
from pyro import settings

from ..evaluation.invisible import modules_of


class Surroundings:
    """Pyro's settings, the default dtype, training modes, and the parameters in the store.

    Looked at in each step: read where they are kept, which takes some microseconds.
    """

    def __init__(self, *programs: Callable[..., Any]) -> None:
        self._modules = modules_of(*programs)
        self._settings = [_place(*entry[:2]) for entry in settings._REGISTRY.values()]
        self._met: list[Any] = []
        self._now: Any = None
        self.number = -1
        """Numbers those that were met."""

    def look(self) -> None:
        """Finds out which ones there are now."""
        now = (
            torch.get_default_dtype(),
            [getattr(owner, name) for owner, name in self._settings],
            [module.training for module in self._modules],
            list(map(id, pyro.get_param_store()._params.values())),
        )
        if now != self._now:
            self._now = now
            if now not in self._met:
                self._met.append(now)
            self.number = self._met.index(now)


def _place(module: str, name: str) -> tuple[Any, str]:
    """The object that has a setting, and the attribute."""
    owner: Any = import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, last
