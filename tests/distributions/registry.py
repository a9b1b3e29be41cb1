"""Every public distribution: how it is made, what is known exactly, how precise its gradient is."""

import importlib
import pkgutil

from . import families
from .entry import Entry

REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for module in pkgutil.iter_modules(families.__path__)
    for entry in importlib.import_module(f"{families.__name__}.{module.name}").ENTRIES
}
"""By class name; a second entry of a class adds a suffix after a hyphen."""

BY_CLASS = {entry.name.split("-")[0]: entry for entry in reversed(REGISTRY.values())}
"""The first entry of each class."""


def points() -> list[tuple[str, int]]:
    return [(name, i) for name, entry in REGISTRY.items() for i in range(len(entry.points))]


def named() -> list[str]:
    return list(REGISTRY)
