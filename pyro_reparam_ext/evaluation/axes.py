"""The view that a program has of the dims along which its particles and evaluations lie.

:class:`Visible`: all of them, left of the dims of its plates, so that it has to broadcast.
:class:`Hidden`: none. It runs under ``torch.func.vmap`` with its own shapes, whatever it does with
them. Either way everything outside of the program (estimators, costs) has one layout of dims, from
the left: evaluations, enumerated sites (the last first), particles, plates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor
from torch._C._functorch import (
    _add_batch_dim,
    _vmap_decrement_nesting,
    _vmap_increment_nesting,
    get_unwrapped,
    is_batchedtensor,
    maybe_get_bdim,
    maybe_get_level,
    pop_dynamic_layer_stack,
    push_dynamic_layer_stack,
)

from ..numerics.shapes import broadcast_shapes

PARTICLES = "num_particles_vectorized"
"""The name of the plate of particles, as Pyro's."""


_NOTHING = nullcontext()


class Visible:
    """The program gets values as they are, and has to broadcast over dims on the left.

    Args:
        particles: the plate in which its particles lie, if there are more than one.
    """

    hides = False

    def __init__(self, particles: pyro.plate | None = None) -> None:
        self.particles = particles

    def running(self) -> AbstractContextManager:
        """Entered around the program, inside of what records it."""
        return self.particles or _NOTHING

    def suspended(self) -> AbstractContextManager:
        """Entered around what is no part of the program while it runs."""
        return _NOTHING

    def evaluations(self, count: int) -> AbstractContextManager:
        """Entered around a run at ``count`` evaluations at once, 0 for the ordinary one alone."""
        return _NOTHING

    def enumerated(self, size: int) -> None:
        """Adds a dim for the values of an enumerated site."""

    def shown(self, fn: TorchDistribution) -> TorchDistribution:
        """A distribution that the program made, with all dims."""
        return fn

    def shown_value(self, x: Tensor, fn: TorchDistribution) -> Tensor:
        """A value at a site that the program distributes as ``fn``, with all dims."""
        return x

    def shown_site(self, site: dict[str, Any]) -> dict[str, Any]:
        """Scale, mask and plates of a site, with all dims."""
        return site

    def hidden(self, x: Tensor, fn: TorchDistribution) -> Tensor:
        """The tensor that the program gets for a site's value ``x``, which it distributes as ``fn``."""
        return x

    def close(self) -> None:
        """Ends what was begun; what the program itself computed can't be used afterwards."""


@dataclass(eq=False)
class _Axis:
    """One dim that the program does not see: its size, and the level of ``vmap`` that hides it."""

    size: int
    level: int
    interpreter: Any
    always: bool = False
    """Whether a value along it is hidden though there is one only."""


class Hidden(Visible):
    """The program runs once under ``vmap``, and sees the shapes of one particle and one evaluation.

    Its randomness is one for all evaluations, as that of a program that sees them, and another one for
    each particle. Values are drawn and scored outside of ``vmap``, by distributions whose parameters
    got the hidden dims back.

    Args:
        num_particles: particles to hide, if more than one.
        plate_dims: the number of dims that plates and particles take.
        random: whether the program's own random numbers may differ between evaluations, as they have
            to where it draws them in the shape of a value (dropout).
    """

    hides = True

    def __init__(self, num_particles: int, plate_dims: int, random: bool = False) -> None:
        self.randomness = "different" if random else "same"
        self.num_particles = num_particles
        self.plates = plate_dims - int(num_particles > 1)
        self._axes: list[_Axis] = []
        if num_particles > 1:
            self._add(num_particles, "different")

    # -- levels of vmap ---------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        # Validation would read values, of which there are many.
        with pyro.validation_enabled(False):
            _push(self._axes)
            try:
                yield
            finally:
                _pop(self._axes)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        _pop(self._axes)
        try:
            yield
        finally:
            _push(self._axes)

    @contextmanager
    def evaluations(self, count: int) -> Iterator[None]:
        if not count:
            yield
            return
        self._add(count, self.randomness, always=True)
        try:
            yield
        finally:
            self._drop()

    def enumerated(self, size: int) -> None:
        self._add(size, self.randomness)

    def close(self) -> None:
        while self._axes:
            self._drop()

    def _add(self, size: int, randomness: str, always: bool = False) -> None:
        _push(self._axes)
        level = _vmap_increment_nesting(size, randomness)
        self._axes.append(_Axis(size, level, None, always))
        _pop(self._axes)

    def _drop(self) -> None:
        _push(self._axes)
        self._axes.pop()
        _vmap_decrement_nesting()
        _pop(self._axes)

    # -- to the program ---------------------------------------------------------------------------

    def hidden(self, x: Tensor, fn: TorchDistribution) -> Tensor:
        lead = x.dim() - len(fn.event_shape) - self.plates
        if lead <= 0:
            return x if x.shape == fn.shape() else fitted(x, torch.Size(), fn.shape())
        x = fitted(x, x.shape[:lead], fn.shape())
        axes = [
            axis
            for number, axis in enumerate(self._axes[:lead])
            if x.shape[lead - 1 - number] == axis.size and (axis.size > 1 or axis.always)
        ]
        # What it does not lie along is of size 1: dropped while it is a plain tensor.
        x = x.reshape(*(axis.size for axis in reversed(axes)), *x.shape[lead:])
        for number, axis in enumerate(axes):
            x = _add_batch_dim(x, len(axes) - 1 - number, axis.level)
        return x

    # -- from the program -------------------------------------------------------------------------

    def shown(self, fn: TorchDistribution) -> TorchDistribution:
        fn, _ = self._lifted(fn, self.plates - len(fn.batch_shape))
        if self.num_particles == 1:
            return fn
        particles = (self.num_particles,) + (1,) * self.plates
        shape = broadcast_shapes(fn.batch_shape, particles)
        return fn if shape == fn.batch_shape else fn.expand(shape)

    def shown_value(self, x: Tensor, fn: TorchDistribution) -> Tensor:
        return self._shown(x, self.plates - x.dim() + len(fn.event_shape))[0]

    def shown_site(self, site: dict[str, Any]) -> dict[str, Any]:
        frames = site["cond_indep_stack"]
        if self.num_particles > 1:
            dim = -1 - self.plates
            frames = (*frames, CondIndepStackFrame(PARTICLES, dim, self.num_particles, 0))
        parts = {
            key: self._shown(x, self.plates - x.dim())[0]
            for key in ("scale", "mask")
            if isinstance(x := site[key], Tensor)
        }
        return {**site, **parts, "cond_indep_stack": frames}

    def _shown(self, x: Tensor, ones: int) -> tuple[Tensor, frozenset[int]]:
        """``x`` with all dims, ``ones`` of size 1 between the hidden ones and its own; and which axes
        it lies along."""
        own, along = x.dim(), []
        dims = list(range(own))  # those of the tensor inside: its own, and axes as -1, -2, ...
        for number in reversed(range(len(self._axes))):
            if is_batchedtensor(x) and maybe_get_level(x) == self._axes[number].level:
                dims.insert(maybe_get_bdim(x), -1 - number)
                x = get_unwrapped(x)
                along.append(number)
        if not along:
            return x, frozenset()
        x = x.permute(*(dims.index(-1 - number) for number in along), *map(dims.index, range(own)))
        found = len(along)
        return x.reshape((*self._lead(along), *(1,) * ones, *x.shape[found:])), frozenset(along)

    def _lead(self, along: Collection[int]) -> tuple[int, ...]:
        """The sizes of the hidden dims of what lies along some axes."""
        return tuple(
            self._axes[number].size if number in along else 1
            for number in reversed(range(max(along) + 1))
        )

    def _lifted(self, fn: Any, pad: int) -> tuple[Any, frozenset[int]]:
        """A distribution or transform with all dims in its parameters, the hidden ones ``pad`` dims
        left of its own batch dims; and which axes it lies along."""
        batch = fn.batch_shape
        parts: dict[str, Any] = {}
        along: frozenset[int] = frozenset()
        for key, part in vars(fn).items():
            new, axes = self._lifted_part(part, pad, len(batch), _event_dims(fn, key, part))
            if axes:
                parts[key] = new
                along |= axes
        if not along:
            return fn, along
        shape = torch.Size((*self._lead(along), *(1,) * pad, *batch))
        if isinstance(fn, ExpandedDistribution):
            return ExpandedDistribution(parts["base_dist"], shape), along
        fn = copy(fn)
        vars(fn).update(parts)
        fn._batch_shape = shape
        return fn.expand(shape), along

    def _lifted_part(self, x: Any, pad: int, batch: int, event: int) -> tuple[Any, frozenset[int]]:
        """An attribute of a distribution with ``batch`` batch dims."""
        if isinstance(x, Tensor):
            return self._shown(x, pad + batch + event - x.dim())
        if isinstance(x, torch.distributions.Distribution):
            return self._lifted(x, pad + max(batch - len(x.batch_shape), 0))
        if isinstance(x, torch.distributions.Transform):
            return self._lifted_transform(x, pad, batch, event)
        if type(x) in (list, tuple):
            lifted = [self._lifted_part(y, pad, batch, event) for y in x]
            return type(x)(y for y, _ in lifted), frozenset().union(*(axes for _, axes in lifted))
        return x, frozenset()

    def _lifted_transform(self, x: Any, pad: int, batch: int, event: int) -> tuple[Any, frozenset[int]]:
        parts: dict[str, Any] = {}
        along: frozenset[int] = frozenset()
        for key, part in vars(x).items():
            if key == "_inv":  # a weak reference to its inverse, with the parameters of before
                continue
            missing = max(batch + event - part.dim(), 0) if isinstance(part, Tensor) else 0
            new, axes = (
                self._shown(part, pad + missing)
                if isinstance(part, Tensor)
                else self._lifted_part(part, pad, batch, event)
            )
            if axes:
                parts[key] = new
                along |= axes
        if not along:
            return x, along
        x = copy(x)
        vars(x).update(parts, _inv=None)
        return x, along


def _push(axes: list[_Axis]) -> None:
    for axis in axes:
        push_dynamic_layer_stack(axis.interpreter)


def _pop(axes: list[_Axis]) -> None:
    for axis in reversed(axes):
        axis.interpreter = pop_dynamic_layer_stack()


def fitted(x: Tensor, lead: torch.Size, shape: torch.Size) -> Tensor:
    """``x``, whose dims right of ``lead`` may be more than those of ``shape`` or 1, in that shape."""
    own = x.shape[len(lead) :]
    own = own[max(len(own) - len(shape), 0) :]
    return x.reshape(lead + (1,) * (len(shape) - len(own)) + own).expand(lead + shape)


def _event_dims(fn: Any, key: str, x: Any) -> int:
    """How many dims of an attribute of a distribution are not batch dims."""
    if not isinstance(x, Tensor):
        return len(fn.event_shape)
    named = fn.arg_constraints.get(key.removeprefix("_unbroadcasted").lstrip("_"))
    try:
        declared = 0 if named is None else named.event_dim
    except NotImplementedError:  # it depends on the distribution
        declared = 0
    return max(declared, x.dim() - len(fn.batch_shape))
