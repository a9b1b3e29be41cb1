"""Where a warning is the business of: the first line outside of the libraries."""

from __future__ import annotations

import sys
from types import FrameType

_LIBRARIES = ("pyro_reparam_ext", "pyro", "torch", "contextlib")


def outside() -> int:
    """The ``stacklevel`` by which a warning given where this is called names the user's line."""
    level, frame, end = 1, sys._getframe(1), calling(sys._getframe(1))
    while frame is not end and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


def calling(frame: FrameType) -> FrameType:
    """The nearest caller outside of the libraries; the outermost one if all are inside."""
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in _LIBRARIES:
            break
        frame = frame.f_back
    return frame
