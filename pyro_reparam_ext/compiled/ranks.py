"""Steps of several processes as one: what they average, and how they agree and fail together.

Every step is one all-reduce of one vector, however a rank came by its gradients. A part of the vector
counts the ranks by what they average; where the count is not complete, some rank failed or steps
something else, and all of them say in words what they were at.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from ..callers import outside, told
from ..errors import EstimatorError

Spec: TypeAlias = tuple[tuple[str, tuple[int, ...], str], ...]
"""Names, shapes and types: what is the same on all ranks."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The tensors that the ranks average in a step, and their places in a vector: the loss comes first.

    ``params``: parameters, whose gradients are averaged. ``averages``: tensors whose values are.
    """

    params: Mapping[str, Tensor]
    averages: Mapping[str, Tensor]

    def is_of(self, params: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> bool:
        """Whether it is the layout of these very tensors."""
        mine, other = self.tensors, [*params.values(), *averages.values()]
        return len(mine) == len(other) and all(a is b for a, b in zip(mine, other, strict=True))

    @cached_property
    def spec(self) -> Spec:
        return tuple(
            (name, tuple(x.shape), str(x.dtype))
            for part in (self.params, self.averages)
            for name, x in part.items()
        )

    @cached_property
    def tensors(self) -> list[Tensor]:
        return [*self.params.values(), *self.averages.values()]

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype of the vector, in which no tensor loses precision."""
        return _common(torch.float32, self.tensors)

    @cached_property
    def size(self) -> int:
        return 1 + sum(x.numel() for x in self.tensors)

    def packed(self, loss: Tensor, grads: Mapping[Tensor, Tensor | None]) -> Tensor:
        """The vector. What has no gradient on this rank has one of zero."""
        parts = [loss]
        for p in self.params.values():
            grad = grads.get(p)
            parts.append(torch.zeros_like(p) if grad is None else grad)
        return _flat([*parts, *self.averages.values()], self.dtype)

    def unpacked(self, vector: Tensor) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """The loss and the gradients in a vector; averages are written where they are kept."""
        loss, *parts = vector.split([1, *(x.numel() for x in self.tensors)])
        grads = {
            p: part.view_as(p).to(p.dtype) for p, part in zip(self.params.values(), parts, strict=False)
        }
        for x, part in zip(self.averages.values(), parts[len(grads) :], strict=True):
            x.copy_(part.view_as(x))
        return loss.reshape(()), grads


@dataclass(frozen=True)
class _Word:
    """A message of one rank to the others: its averages, an error, and a mark of its random numbers.

    ``number``: of the layout; None if it is new.
    """

    spec: Spec = ()
    number: int | None = None
    error: str | None = None
    noise: str | None = None


class Ranks:
    """The processes of a group, which take their steps together.

    Args:
        group: a process group of ``torch.distributed`` that this process is in.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        if not isinstance(group, dist.ProcessGroup):
            raise EstimatorError(
                f"group: expected a process group of torch.distributed that this process is in, was "
                f"given {group!r}. Call init_process_group first, and give group.WORLD or what "
                f"new_group returns."
            )
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.mixed: Layout | None = None
        """Of the last step, if some ranks took it as a graph and others eagerly."""
        self._layouts: list[Layout] = []
        self._wire = torch.zeros(1)

    # -- what a step averages ---------------------------------------------------------------------

    def known(self, params: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> Layout | None:
        """The layout that was agreed on for these tensors, if there is one."""
        found = (layout for layout in self._layouts if layout.is_of(params, averages))
        return next(found, None)

    def agree(
        self, params: Mapping[str, Tensor], averages: Mapping[str, Tensor], noise: str | None = None
    ) -> Layout:
        """The layout for these tensors; they get the values of rank 0 where they are new.

        ``noise``: a mark of the random numbers that this rank draws.

        Raises:
            EstimatorError: another rank averages something else, or failed.
        """
        layout = self.known(params, averages)
        if layout is not None:
            return layout
        layout = Layout(dict(params), dict(averages))
        self._all_reduce(None)
        words = self._talk(_Word(layout.spec, noise=noise))
        self._compare_noise(words)
        self.spread(layout.tensors)
        self._layouts.append(layout)
        size = 2 * len(self._layouts) + max(x.size for x in self._layouts)
        dtype = torch.promote_types(self._wire.dtype, layout.dtype)
        device = layout.tensors[0].device if layout.tensors else self._wire.device
        self._wire = torch.zeros(size, dtype=dtype, device=device)
        return layout

    def mean(self, layout: Layout, vector: Tensor, captured: bool) -> Tensor:
        """The mean of a vector over the ranks: the same bits on all of them.

        ``captured``: whether this rank's step is a graph.

        Raises:
            EstimatorError: another rank averages something else, or failed.
        """
        number = self._layouts.index(layout)
        slot, start = 2 * number, 2 * len(self._layouts)
        wire = self._all_reduce(slot + captured, start, vector)
        eager, graphs = wire[slot : slot + 2].tolist()
        if eager + graphs != self.size:
            self._talk(_Word(layout.spec, number))
        self.mixed = layout if eager and graphs else None
        return wire[start : start + layout.size].to(layout.dtype) / self.size

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Gives all ranks the values of rank 0."""
        if not tensors:
            return
        values = [x.detach() for x in tensors]
        vector = _flat(values, _common(values[0].dtype, values))
        dist.broadcast(vector, dist.get_global_rank(self.group, 0), group=self.group)
        if self.rank:
            for x, part in zip(values, vector.split([x.numel() for x in values]), strict=True):
                x.copy_(part.view_as(x))

    # -- failing together -------------------------------------------------------------------------

    @contextmanager
    def told(self) -> Iterator[None]:
        """An error of what runs inside, on this rank alone, is raised on the others too."""
        try:
            yield
        except Exception as error:
            self._all_reduce(None)
            self.hear(error)
            raise

    def hear(self, error: Exception | None) -> None:
        """Where all ranks say whether they failed: raises this one's error, or that of another."""
        self._talk(_Word(error=None if error is None else told(error)), error)

    # -- parts ------------------------------------------------------------------------------------

    def _all_reduce(self, slot: int | None, start: int = 0, vector: Tensor | None = None) -> Tensor:
        """One all-reduce. Without a slot it is not the one of a step: all ranks are to talk."""
        wire = self._wire.zero_()
        if slot is not None and vector is not None:
            wire[slot] = 1
            wire[start : start + len(vector)] = vector
        dist.all_reduce(wire, group=self.group)
        return wire

    def _talk(self, word: _Word, error: Exception | None = None) -> list[_Word]:
        """The messages of all ranks; raises unless they say the same."""
        words: list[_Word] = [word] * self.size
        dist.all_gather_object(words, word, group=self.group)
        if error is not None:
            raise error
        failed = [f"rank {i}: {x.error}" for i, x in enumerate(words) if x.error is not None]
        if failed:
            raise EstimatorError(
                f"another process failed in this step, which was taken on no rank. {'. '.join(failed)}"
            )
        for i, x in enumerate(words):
            if (x.spec, x.number) != (words[0].spec, words[0].number):
                raise EstimatorError(
                    f"rank {i} and rank 0 step different parameters: "
                    f"{_difference(x.spec, words[0].spec)}. The step was taken on no rank. Let all "
                    f"ranks run the same program, on data of the same kinds in the same order."
                )
        return words

    def _compare_noise(self, words: Sequence[_Word]) -> None:
        mine = words[self.rank].noise
        twin = next((i for i, x in enumerate(words[: self.rank]) if mine and x.noise == mine), None)
        if twin is not None:
            warnings.warn(
                f"rank {self.rank} draws the same random numbers as rank {twin}, which adds less than "
                f"numbers of its own. Call pyro.set_rng_seed(seed + rank) before the first step.",
                stacklevel=outside(),
            )


def ranks_of(group: dist.ProcessGroup | None) -> Ranks | None:
    """The ranks of a group; None for a process by itself, with a warning if it is not alone."""
    if group is not None:
        return Ranks(group)
    alone = not dist.is_available() or not dist.is_torchelastic_launched()
    if not alone and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        warnings.warn(
            "CompiledSVI was given no group, in one of several processes that torchrun has started: "
            "each of them trains by itself. Call torch.distributed.init_process_group, and pass "
            "group=torch.distributed.group.WORLD for them to train together.",
            stacklevel=outside(),
        )
    return None


def noise_mark() -> str:
    """A mark of the random numbers that will be drawn next."""
    return hashlib.sha256(bytes(torch.get_rng_state().numpy())).hexdigest()


def _flat(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([x.reshape(-1).to(dtype) for x in tensors])


def _common(dtype: torch.dtype, tensors: Sequence[Tensor]) -> torch.dtype:
    return reduce(torch.promote_types, (x.dtype for x in tensors), dtype)


def _difference(mine: Spec, other: Spec) -> str:
    """The tensors that one of two ranks averages and the other doesn't, in words."""
    if mine == other:
        return "of the same names, but made anew in different steps"
    a, b = sorted(set(mine) - set(other)), sorted(set(other) - set(mine))
    said = [", ".join(f"'{name}' of shape {shape}" for name, shape, _ in x) or "none" for x in (a, b)]
    return f"{said[0]}, and {said[1]}"
