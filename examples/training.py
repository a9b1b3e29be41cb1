"""How the examples train: by SVI or, with ``--compile``, by steps that are compiled."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pyro.infer import SVI

import pyro_reparam_ext as pre

UNTIMED = 2
"""The first steps: an estimator looks at the program in one, the next compiles it."""


def add_compile(parser: argparse.ArgumentParser, what: str = "train by CompiledSVI") -> None:
    """Adds ``--compile``, which makes ``args.svi`` another class."""
    parser.add_argument(
        "--compile", dest="svi", action="store_const", const=pre.CompiledSVI, default=SVI, help=what
    )


def stretches(
    svi: SVI,
    stops: Iterable[int],
    *args: Any,
    batches: Iterable[Any] | None = None,
    context: Callable[[], AbstractContextManager] = nullcontext,
) -> Iterator[tuple[int, float]]:
    """Trains up to each of these steps in turn, and yields it where there is something to look at.

    With it come the CPU seconds of training so far. The first two steps, in which programs are looked
    at and compiled, count as much as the steps after them.

    Args:
        svi: what trains.
        stops: numbers of steps, ascending.
        args: arguments of every step.
        batches: arguments that change from step to step: see ``pre.run_svi``.
        context: a context for the steps alone.
    """

    def run(count: int) -> None:
        with context():
            pre.run_svi(svi, count, *args, batches=batches, progress=False)

    done, timed, seconds = 0, 0, 0.0
    for stop in stops:
        untimed = max(0, min(stop, UNTIMED) - done)
        run(untimed)
        start = time.process_time()
        run(stop - done - untimed)
        seconds += time.process_time() - start
        timed += stop - done - untimed
        done = stop
        yield done, seconds * done / timed if timed else 0.0
