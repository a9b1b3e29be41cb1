"""From a graph to what runs it: compiled ahead of time, or operation by operation."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..callers import outside

Run = Callable[[list[Tensor]], Sequence[Tensor]]
"""Runs a graph on its inputs, which it may empty the list of; returns its outputs."""


class Backend(Protocol):
    """Makes what runs a graph on inputs like the example."""

    def __call__(self, gm: GraphModule, example: Sequence[Tensor]) -> Run: ...


OPTIONS = {"fallback_random": True, "reorder_for_peak_memory": False}
"""torch's own random kernels, in their own order: the numbers of an eager step from the same seed."""


def plain(gm: GraphModule, example: Sequence[Tensor]) -> Run:
    """The graph as it is, one operation after the other: without Python's share of a step."""

    def run(inputs: list[Tensor]) -> Sequence[Tensor]:
        return gm(*inputs)

    return run


def ahead_of_time(gm: GraphModule, example: Sequence[Tensor]) -> Run:
    """Compiled by AOTInductor to machine code, which is kept for the next time.

    Without a C++ compiler: :func:`plain`, with a warning.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        warnings.warn(
            "No C++ compiler was found: steps run as a graph of single operations, at about twice the "
            "speed of SVI. Install g++ (apt install g++, conda install gxx, xcode-select --install), "
            "or set CXX.",
            stacklevel=outside(),
        )
        return plain(gm, example)
    path = _place(gm, example)
    if not _is_whole(path):
        with _turn(path):
            if not _is_whole(path):  # another process may have made it meanwhile
                _compile(gm, example, path)
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    return loader.boxed_run


def is_kept(gm: GraphModule, example: Sequence[Tensor]) -> bool:
    """Whether a graph has been compiled before, here or in another process."""
    return _is_whole(_place(gm, example))


def _place(gm: GraphModule, example: Sequence[Tensor]) -> Path:
    from .graph import digest  # which imports sympy

    return folder() / f"{digest(gm, example, torch.__version__, str(OPTIONS), _cpu())}.pt2"


def folder() -> Path:
    """Where compiled steps are kept: the user's own, for it holds code that will be run.

    Raises:
        PermissionError: it belongs to, or can be written by, somebody else.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "pyro_reparam_ext"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if hasattr(os, "getuid") and (
        found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise PermissionError(
            f"{path}: compiled steps are machine code, and are kept in a folder that nobody else can "
            f"write. Remove it, or set XDG_CACHE_HOME to a folder of your own."
        )
    return path


def _cpu() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _is_whole(path: Path) -> bool:
    """Whether a file is there, and is what was written."""
    written = path.with_suffix(".sha256")
    if not (path.exists() and written.exists()):
        return False
    return written.read_text() == hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Processes that want the same file come one after the other, where the system has locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(gm: GraphModule, example: Sequence[Tensor], path: Path) -> None:
    from torch._inductor import aoti_compile_and_package

    exported = torch.export.export(gm, tuple(example))
    with tempfile.TemporaryDirectory(dir=path.parent) as workplace:
        made = Path(workplace) / "step.pt2"
        options = dict(OPTIONS)  # torch adds to them, and the next digest has those that were given
        aoti_compile_and_package(exported, package_path=str(made), inductor_configs=options)
        checksum = hashlib.sha256(made.read_bytes()).hexdigest()
        os.replace(made, path)
    path.with_suffix(".sha256").write_text(checksum)
