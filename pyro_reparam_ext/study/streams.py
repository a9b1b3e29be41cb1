"""Random numbers that are kept apart by what they are drawn for: a stream for every source of noise."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..noise import drawn_apart, noise_of

ELSEWHERE = "elsewhere"
"""The source of all noise that is drawn neither for a site nor for a plate."""

SeedOf: TypeAlias = Callable[[str], int]
"""The seed of the stream of a source."""
_State: TypeAlias = list[Tensor]


class SourceStreams(Messenger):
    """Draws the noise of every source of a program from a stream with a seed of its own.

    Sources are ``site:<name>``, ``plate:<name>`` for the indices of a sub-sampled plate, and what is
    drawn anywhere else. All that an estimator draws for a site is of one stream: the value, its
    alternatives, and the same drawn again in evaluations of other sites. ``met`` has the sources from
    which anything was drawn, in the order in which they were met.

    The evaluation of an ELBO of this package says by itself what it draws for which source; for Pyro's
    own, and for what the model draws by itself, this is a handler around all others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met: dict[str, None] = {}
        self._seed_of: SeedOf = lambda source: 0
        self._states: dict[str, _State] = {}
        self._active = ""

    @contextmanager
    def seeded(self, seed_of: SeedOf) -> Iterator[None]:
        """A context for one gradient, or many at once, that begins every stream anew."""
        self._seed_of, self._states = seed_of, {}
        seed = seed_of(ELSEWHERE)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        _seed(seed)
        begin, begin_of_others = _state(), _state_of_others()
        with drawn_apart(self), self:
            yield
        end, end_of_others = _state(), _state_of_others()
        if begin_of_others != end_of_others or not _is_same(begin, end):
            self.met.setdefault(ELSEWHERE)

    @contextmanager
    def of(self, kind: str, name: str) -> Iterator[None]:
        source = f"{kind}:{name}"
        if source == self._active:
            yield
            return
        outer, self._active, outside = self._active, source, _state()
        if source in self._states:
            _set_state(self._states[source])
        else:
            _seed(self._seed_of(source))
        before = _state()
        try:
            yield
        finally:
            self._states[source] = after = _state()
            if not _is_same(before, after):
                self.met.setdefault(source)
            _set_state(outside)
            self._active = outer

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if message["done"] or message["is_observed"] or message["value"] is not None:
            return
        kind = "plate" if site_is_subsample(message) else "site"
        with noise_of(kind, message["name"]):  # common numbers where the run is to leave no trace
            message["value"] = message["fn"](*message["args"], **message["kwargs"])
        message["done"] = True


def seeds(*of: object) -> SeedOf:
    """Seeds that differ between sources, and between all that is said in ``of``."""

    def seed_of(source: str) -> int:
        return int.from_bytes(hashlib.sha256(repr((*of, source)).encode()).digest()[:4], "big")

    return seed_of


def _generators() -> list[torch.Generator]:
    """Torch's generators, of the CPU and of every GPU in use."""
    of_gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    return [torch.default_generator, *of_gpus]


def _seed(seed: int) -> None:
    for generator in _generators():  # without what torch.manual_seed notes for GPUs not in use
        generator.manual_seed(seed)


def _state() -> _State:
    return [generator.get_state() for generator in _generators()]


def _set_state(states: _State) -> None:
    for generator, state in zip(_generators(), states, strict=False):  # a GPU's may be new
        generator.set_state(state)


def _is_same(states: _State, others: _State) -> bool:
    return len(states) == len(others) and all(map(torch.equal, states, others))


def _state_of_others() -> tuple[Any, ...]:
    """The states of Python's and numpy's random numbers."""
    of_numpy: Any = np.random.get_state(legacy=False)["state"]
    return random.getstate(), of_numpy["key"].tobytes(), of_numpy["pos"]
