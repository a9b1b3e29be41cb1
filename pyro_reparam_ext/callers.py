"""Whose business a warning or an error is: the line of the program, outside of the libraries."""

from __future__ import annotations

import sys
import traceback
from types import FrameType, FunctionType
from typing import Any

LIBRARIES = ("pyro_reparam_ext", "pyro", "torch", "contextlib", "numpy")
_NOT_THE_USERS = sys.stdlib_module_names.union(LIBRARIES) - {"argparse", "types"}
"""Modules whose functions and objects are no part of a program; namespaces are."""


def outside() -> int:
    """The ``stacklevel`` by which a warning given where this is called names the user's line."""
    level, frame, end = 1, sys._getframe(1), calling(sys._getframe(1))
    while frame is not end and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


def calling(frame: FrameType) -> FrameType:
    """The nearest caller outside of the libraries; the outermost one if all are inside."""
    while frame.f_back is not None:
        if not is_of_a_library(frame):
            break
        frame = frame.f_back
    return frame


def told(error: BaseException) -> str:
    """An error's message in one line, with the last line of a program that it passed through."""
    line, text = line_of(error), str(error).strip().split("\n")[0] or type(error).__name__
    return f"{text} (at {line})" if line else text


def line_of(error: BaseException) -> str | None:
    """The last line of a program that an error passed through."""
    lines = [
        f"{frame.f_code.co_filename}:{number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not is_of_a_library(frame)
    ]
    return lines[-1] if lines else None


def is_of_a_library(frame: FrameType) -> bool:
    """Whether a frame is none of the program: of a library, or of code that one has generated."""
    name = frame.f_globals.get("__name__")
    return name is None or name.split(".")[0] in LIBRARIES


def is_of_the_user(x: Any) -> bool:
    """Whether a function, or the class of an object, is neither of a library nor of Python itself."""
    module = getattr(x if isinstance(x, (FunctionType, type)) else type(x), "__module__", None) or ""
    return module.split(".")[0] not in _NOT_THE_USERS
