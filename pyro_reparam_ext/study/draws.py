"""Draws of a gradient: many at once where the program can be batched, else one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.func import grad, vmap

from ..elbo import TraceEstimator_ELBO
from ..errors import CannotCapture
from ..evaluation.invisible import modules_of
from .sampler import Gradients, Sampler
from .substitution import BatchedDraws

FLOATS = 2**21
"""Draws made at once: as many as take about this many floats per tensor, which fit a cache."""
LOOPED = 32
"""Draws of a chunk that are made one after another."""
CAPTURE_PAYS = 4.0
"""Seconds that draws take from which on a graph of them is recorded."""
COMPILING_PAYS = 60.0
"""Seconds from which on the graph is compiled, where it was not before."""


class Draws:
    """Draws of the gradient in some parameters, up to ``size`` at once.

    ``batched``: whether ``vmap`` takes the program. The draws of a seed are the same numbers, up to
    rounding, whether Python makes them or a graph that was recorded of it.
    """

    def __init__(self, sampler: Sampler, names: list[str]) -> None:
        self.sampler = sampler
        self.leaves = {name: sampler.parameters[name] for name in names}
        self.batched = self._can_batch()
        self.size = max(1, FLOATS // sampler.footprint) if self.batched else LOOPED
        self.graph: Callable[[], list[Tensor]] | None = None

    def chunks(self, num_draws: int) -> Iterator[Gradients]:
        """So many draws, of the random numbers that come next."""
        for start in range(0, num_draws, self.size):
            count = min(self.size, num_draws - start)
            with self.sampler.call.context():
                chunk = self._batch(count) if self.batched else self._loop(count)
            yield chunk

    def speed_up(self, seconds: float) -> None:
        """Records a graph of the draws that are left, if as many seconds of them make up for it.

        Nothing is said where the program is not one graph: the draws are the same.
        """
        if self.graph is None and seconds > CAPTURE_PAYS:
            with self.sampler.call.context():
                self.graph = self._recorded(seconds > COMPILING_PAYS)

    # -- parts ------------------------------------------------------------------------------------

    def _can_batch(self) -> bool:
        elbo = self.sampler.call.elbo
        if not (isinstance(elbo, TraceEstimator_ELBO) and elbo.vectorize_particles):
            return False
        try:
            with self.sampler.call.context():
                self._vectorized(2)
        except (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError):
            return False
        return True

    def _batch(self, count: int) -> Gradients:
        if self.graph is None or count < self.size:
            return self._named(self._vectorized(count))
        return self._named(self.graph())

    def _vectorized(self, count: int) -> list[Tensor]:
        originals = list(self.leaves.values())

        def surrogate(values: list[Tensor]) -> Tensor:
            pairs = zip(originals, values, strict=True)
            with BatchedDraws({id(leaf): value for leaf, value in pairs}):
                return self.sampler.surrogate()

        def gradient(_: Tensor, values: list[Tensor]) -> list[Tensor]:
            return grad(surrogate)(values)

        batched = vmap(gradient, in_dims=(0, None), randomness="different")
        with pyro.validation_enabled(False), torch.no_grad():
            return batched(torch.arange(count), [leaf.detach() for leaf in originals])

    def _loop(self, count: int) -> Gradients:
        rows = [self._named(self.graph()) if self.graph else self._single() for _ in range(count)]
        return {name: torch.stack([row[name] for row in rows]) for name in self.leaves}

    def _single(self) -> Gradients:
        return self.sampler.gradient(self.leaves)

    def _named(self, gradients: list[Tensor]) -> Gradients:
        return dict(zip(self.leaves, gradients, strict=True))

    def _recorded(self, compiles: bool) -> Callable[[], list[Tensor]] | None:
        # These import sympy: not before they are used.
        from ..compiled.backends import ahead_of_time, is_kept, plain
        from ..compiled.graph import agree, copied
        from ..compiled.steady import Changes, compiling, steady_graph

        leaves, call = list(self.leaves.values()), self.sampler.call

        def step(_: Any) -> list[Tensor]:
            if self.batched:
                return self._vectorized(self.size)
            with torch.enable_grad():
                surrogate = self.sampler.surrogate()
            return list(torch.autograd.grad(surrogate, leaves, materialize_grads=True))

        try:
            graph, kept = steady_graph(step, leaves, [], modules_of(call.model, call.guide))
            inputs = [*(leaf.detach() for leaf in leaves), *kept]
            with compiling():
                compiles = compiles or is_kept(graph, inputs)
                run = (ahead_of_time if compiles else plain)(graph, list(map(copied, inputs)))
        except (CannotCapture, Changes):
            return None

        def draw() -> list[Tensor]:
            return list(run(list(inputs)))

        with torch.random.fork_rng():
            state = torch.get_rng_state()
            expected = step(None) if self.batched else list(self._single().values())
            torch.set_rng_state(state)
            pairs = zip(draw(), expected, strict=True)
            return draw if all(agree(a, b, b) for a, b in pairs) else None
