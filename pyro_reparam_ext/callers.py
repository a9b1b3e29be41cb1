"""Where a warning is the business of: the first line outside of the libraries."""

from __future__ import annotations

import sys

_LIBRARIES = ("pyro_reparam_ext", "pyro", "torch", "contextlib")


def outside() -> int:
    """The ``stacklevel`` by which a warning given where this is called names the user's line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in _LIBRARIES:
            break
        level, frame = level + 1, frame.f_back
    return level
