"""Every public distribution: how it is made, what is known exactly, how precise its gradient is."""

import importlib
import pkgutil

from . import families
from .entry import Entry
from .relaxed import Relaxed

REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for module in pkgutil.iter_modules(families.__path__)
    for entry in importlib.import_module(f"{families.__name__}.{module.name}").ENTRIES
}
"""By class name; a second entry of a class adds a suffix after a hyphen."""

RELAXED: dict[str, Relaxed] = {n: entry for n, entry in REGISTRY.items() if isinstance(entry, Relaxed)}
"""Those that are relaxed or discrete, and CONTINUOUS those that are not."""

CONTINUOUS: dict[str, Entry] = {n: entry for n, entry in REGISTRY.items() if n not in RELAXED}

BY_CLASS = {name.split("-")[0]: entry for name, entry in reversed(CONTINUOUS.items())}
"""The first entry of each class of CONTINUOUS."""

CLASSES = {name.split("-")[0] for name in REGISTRY}


def points() -> list[tuple[str, int]]:
    return [(name, i) for name, entry in REGISTRY.items() for i in range(len(entry.points))]


def named() -> list[str]:
    return list(REGISTRY)
