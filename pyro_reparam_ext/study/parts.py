"""The draws of one label in parts, each with a seed of its own, so that any process can make them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.runtime import _PYRO_STACK

from ..errors import EstimatorError
from ..schedule import measuring
from .draws import Draws
from .moments import Moments

PARTS = 64
"""Parts that draws are split into, at most: each is one task of an executor."""


@dataclass(frozen=True)
class Part:
    """So many draws of a seed, of which the first ``kept`` are returned themselves."""

    seed: int
    count: int
    kept: int


@dataclass(frozen=True, eq=False)
class Drawn:
    """The moments of a part, and the draws that are kept."""

    moments: Moments
    kept: dict[str, np.ndarray]


def split(num_draws: int, size: int, kept: int, seed: tuple[int, ...]) -> list[Part]:
    """Parts of some chunks of ``size`` each, whoever draws them."""
    chunks = -(-num_draws // size)
    step = size * -(-chunks // PARTS)
    starts = range(0, num_draws, step)
    seeds = np.random.SeedSequence([x % 2**64 for x in seed]).generate_state(len(starts), np.uint64)
    return [
        Part(int(seed), min(step, num_draws - start), min(step, max(0, kept - start)))
        for start, seed in zip(starts, seeds, strict=True)
    ]


def drawn(draws: Draws, part: Part, moments: Moments) -> Drawn:
    """Makes the draws of a part."""
    torch.manual_seed(part.seed)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in draws.leaves}
    left = part.kept
    for chunk in draws.chunks(part.count):
        moments.add(chunk)
        for name, values in chunk.items():
            kept[name].append(values[:left].detach().cpu().numpy())
        left = max(0, left - len(values))
    return Drawn(moments, {name: np.concatenate(values) for name, values in kept.items()})


def all_drawn(
    draws: Draws, parts: list[Part], moments: Moments, executor: Executor | None
) -> Iterator[Drawn]:
    """Makes the draws of all parts, in their order: the first one here, the others anywhere.

    Each has moments of its own, to be merged with those given.
    """
    start = time.perf_counter()
    first, *others = parts
    yield drawn(draws, first, moments.empty())
    seconds = (time.perf_counter() - start) / first.count * sum(part.count for part in others)
    draws.speed_up(seconds)
    if executor is None or not others:
        yield from (drawn(draws, part, moments.empty()) for part in others)
        return
    payload = _packed(draws, moments, seconds)
    futures = [executor.submit(drawn_elsewhere, _process(), payload, part) for part in others]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


# -- in another process -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """The state of a process that a program sees: parameter store, settings, dtype."""

    store: dict[str, Any]
    settings: dict[str, Any]
    dtype: torch.dtype

    @classmethod
    def here(cls) -> _Surroundings:
        return cls(
            pyro.get_param_store().get_state(),
            pyro.settings.get(),
            torch.get_default_dtype(),
        )

    @contextmanager
    def entered(self) -> Iterator[None]:
        before = torch.get_default_dtype(), torch.get_num_threads()
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng())
            stack.enter_context(pyro.get_param_store().scope(self.store))
            stack.enter_context(pyro.settings.context(**self.settings))
            stack.enter_context(measuring())
            torch.set_default_dtype(self.dtype)
            torch.set_num_threads(1)  # the processes share the cores
            try:
                yield
            finally:
                torch.set_default_dtype(before[0])
                torch.set_num_threads(before[1])


def _process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _packed(draws: Draws, moments: Moments, seconds: float) -> bytes:
    """A program and all that it sees, for another process.

    Raises:
        EstimatorError: something of it can't be sent.
    """
    import cloudpickle

    if _PYRO_STACK:
        raise EstimatorError(
            f"executor: another process does not see the handler {_PYRO_STACK[-1]!r} around the study; "
            f"expected none. Put it on model and guide, for example poutine.scale(model, scale=2.0)."
        )
    try:
        return cloudpickle.dumps(
            (draws.sampler, list(draws.leaves), moments.empty(), seconds, _Surroundings.here())
        )
    except Exception as error:
        raise EstimatorError(
            f"executor: the program can't be sent to another process: {error}. Expected a model, a "
            f"guide and arguments that can be pickled; leave out generators, open files and locks, or "
            f"draw here (executor=None)."
        ) from error


@lru_cache(maxsize=1)
def _unpacked(payload: bytes) -> tuple[Draws, Moments, _Surroundings]:
    import cloudpickle

    sampler, names, moments, seconds, surroundings = cloudpickle.loads(payload)
    with surroundings.entered():
        draws = Draws(sampler, names)
        draws.speed_up(seconds)
    return draws, moments, surroundings


def drawn_elsewhere(home: tuple[str, int], payload: bytes, part: Part) -> Drawn:
    """Makes the draws of a part in a process of an executor."""
    if _process() == home:
        raise EstimatorError(
            "executor: its tasks run in the study's own process, where Pyro's handlers, parameters and "
            "random numbers are shared; expected one of processes, such as "
            "concurrent.futures.ProcessPoolExecutor."
        )
    draws, moments, surroundings = _unpacked(payload)
    with surroundings.entered():
        return drawn(draws, part, moments.empty())
