"""How a program is run at many values at once: which way it takes is learned when it is first seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Literal, TypeAlias

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..callers import outside
from ..contexts import Holding
from ..errors import CannotVectorize, EstimatorError
from .costs import Costs
from .notes import OfProgram, Warned
from .program import Dependencies
from .terms import Crossing, Key
from .verify import Signature, signature, verify

Vectorize: TypeAlias = bool | Literal["vmap"]
"""``True``: the program broadcasts; ``"vmap"``: under ``vmap``; ``False``: in a loop."""

MODES: tuple[Vectorize, ...] = (True, "vmap", False)
"""From the fastest to the one that takes every program."""
REMEMBERED = 8
"""Programs of one ELBO whose ways are remembered."""
SHAPES = 1000
"""Shapes of one program that are remembered."""

_captured: ContextVar[bool] = ContextVar("captured", default=False)


def captured() -> AbstractContextManager[None]:
    """Says that what runs inside is recorded as a graph: nothing is to be compared or looked for."""
    return Holding(_captured, True)


def is_captured() -> bool:
    """Whether what runs is recorded as a graph."""
    return _captured.get()


def check_vectorize(given: object) -> None:
    """Raises for what is none of the modes."""
    if not any(given is mode or given == mode == "vmap" for mode in MODES):
        raise EstimatorError(
            f"vectorize_particles: expected True (the program broadcasts), 'vmap' or False (a loop), "
            f"was given {given!r}."
        )


@dataclass(eq=False)
class Shapes:
    """Knowledge of a program at some shapes.

    ``calls`` counts them; ``compared`` has what has been compared with plain runs, and ``complete``
    says whether that is all. ``dependencies``: all that were ever found by provenance; None: never
    looked for. ``fixed``: whether parameters stay as they are.
    """

    calls: int = 0
    complete: bool = False
    compared: set[Hashable] = field(default_factory=set)
    dependencies: dict[Key, frozenset[str]] | None = None
    fixed: bool = False

    @property
    def due(self) -> bool:
        """Whether the next call is to be compared: until all has been, and at calls 4, 16, 64, ...

        What parameters that are zero at first hide, and a program that changes, shows later.
        """
        return not self.complete or (not self.fixed and _is_power_of_four(self.calls + 1))

    def count(self) -> None:
        """Counts a call; all is compared again at some of them."""
        self.calls += 1
        if not self.fixed and _is_power_of_four(self.calls):
            self.compared = {x for x in self.compared if isinstance(x, Warned)}

    def learn(self, costs: Costs) -> None:
        """Adds the dependencies that a run has found by provenance."""
        known = self.dependencies = self.dependencies or {}
        for term in costs.passes[0].terms:
            if term.upstream is not None:
                known[term.key] = known.get(term.key, frozenset()) | term.upstream


def _is_power_of_four(number: int) -> bool:
    return number & (number - 1) == 0 and number.bit_length() % 2 == 1


@dataclass(eq=False)
class Way:
    """How one program, a model and its guide, is run.

    ``plates``: dims that its plates take. ``shapes``: what is known of it, by the shapes of its sites.
    ``last``: what is known of it at the shapes of its last call. ``crossed``: what was found to depend
    on other elements of a plate than its own. ``random``: whether the program's own random numbers may
    differ between evaluations. ``reads``: whether it reads values as numbers, so that what depends on
    what may change from call to call. ``reasons``: why it is not run in each mode that was tried before
    this one, of which ``told`` have been told. ``common``: what is known of the program
    whatever its estimators are, as long as arguments and parameters stay the same; None: they may not.
    """

    programs: tuple[Callable[..., Any], Callable[..., Any]]
    mode: Vectorize
    plates: int
    shapes: dict[Signature, Shapes] = field(default_factory=dict)
    last: Shapes | None = None
    crossed: set[Crossing] = field(default_factory=set)
    initialised: bool = False
    random: bool = False
    reads: bool = False
    reasons: list[str] = field(default_factory=list)
    told: int = 0
    common: set[Hashable] | None = None

    def for_others(self) -> Way:
        """For other estimators, of a program whose arguments and parameters stay as they are.

        It knows of the program what this one has found, and those that are made of it share what they
        find. Nothing is compared a second time.
        """
        if self.common is not None:
            common = self.common
        else:
            compared = () if self.last is None else self.last.compared
            common = {x for x in compared if isinstance(x, OfProgram)}
        return replace(self, shapes={}, last=None, reasons=[], told=0, common=common)

    def serves(self, model: Callable[..., Any], guide: Callable[..., Any]) -> bool:
        """Whether this is the way of a program, or of one that was made anew of the same parts."""
        mine, its_guide = self.programs
        return _is_same(mine, model) and _is_same(its_guide, guide)

    @property
    def dependencies(self) -> Dependencies | None:
        """Which cost depends on which sites, if the next call need not look for it."""
        last = self.last
        if is_captured() and last is not None:
            return last.dependencies or {}
        if self.mode is False or self.reads or last is None or last.due or _is_inside_vmap():
            return None
        return last.dependencies

    def check(
        self, runs: list[Costs], look: Callable[[], int], tracked: Callable[[], list[Costs]] | None
    ) -> None:
        """Compares an evaluation with plain runs, the first times at these shapes.

        Args:
            runs: the evaluation.
            look: runs the program once and returns the dims of its plates.
            tracked: runs it with provenance, where ``runs`` had the :attr:`dependencies` instead.

        Raises:
            CannotVectorize: it means something else.
        """
        if is_captured():
            return
        shapes = signature(runs[0])
        met = self.shapes.get(shapes)
        if met is None and len(self.shapes) > SHAPES:
            self.shapes.clear()
        known = met or self.shapes.setdefault(shapes, Shapes(fixed=self.common is not None))
        if _is_inside_vmap():
            return
        if tracked is None:
            if self.mode is not False or known.due:
                for run in runs:
                    self._learn(known, run)
        elif known is not self.last:  # had those of other shapes
            if known.dependencies is None:
                self._learn(known, tracked()[0])
            runs[0].depend(known.dependencies or {})
        self.last, due = known, known.due
        known.count()
        if not due:
            return
        if met is None and len(self.shapes) > 1 and look() > self.plates and self.mode is not False:
            raise CannotVectorize("plates are nested more deeply than when the program was first run")
        known.compared |= self.common or set()
        known.complete = verify(runs[0], known.compared)
        if self.common is not None:
            self.common.update(x for x in known.compared if isinstance(x, OfProgram))

    def _learn(self, known: Shapes, costs: Costs) -> None:
        known.learn(costs)
        self.reads |= bool(costs.program.ordinary.control.sites)

    def fall_back(self, error: CannotVectorize) -> None:
        """Goes on to the next way, which takes more programs."""
        if self.mode is False:
            raise error
        if self.mode == "vmap" and not self.random and "same randomness" in str(error):
            self.random = True
            return
        self.reasons.append(str(error).rstrip("."))
        self.mode = MODES[MODES.index(self.mode) + 1] if error.ever else False
        self.shapes.clear()
        self.last = None

    def say(self, given: Vectorize) -> None:
        """Warns, once a way has been found, that it is not the one that was asked for."""
        if self.told == len(self.reasons):
            return
        reason, self.told = self.reasons[self.told], len(self.reasons)
        warnings.warn(
            f"{reason[:1].upper()}{reason[1:]}. Evaluations are run "
            + (
                "by torch.func.vmap instead, which gives the program its own shapes. "
                if self.mode == "vmap"
                else "one by one instead. "
            )
            + f"Pass vectorize_particles={self.mode!r} to the ELBO to say so yourself, or see 'What "
            f"your program must be able to do' in the documentation for a form that takes "
            f"vectorize_particles={given!r}.",
            stacklevel=outside(),
        )


def _is_same(program: Callable[..., Any], other: Callable[..., Any]) -> bool:
    if program is other or (type(program) is MethodType and program == other):
        return True
    return identity(program) == identity(other)


def identity(program: Any) -> Hashable:
    """A key that two programs have in common if one is the other, made anew: a bound method, a handler
    around a function, a function of the same code and closure."""
    if isinstance(program, MethodType):
        return id(program.__self__), identity(program.__func__)
    if isinstance(program, partial):
        return (identity(program.func), *map(identity, program.args))
    if isinstance(program, Messenger):
        return id(type(program))
    if isinstance(program, FunctionType):
        cells = [cell.cell_contents for cell in program.__closure__ or ()]
        return (program.__code__, *(identity(x) for x in cells if not isinstance(x, Tensor)))
    if isinstance(program, (bool, int, str)):
        return program
    return id(program)


def _is_inside_vmap() -> bool:
    """Whether a vmap goes on outside of the ELBO: values are no numbers then."""
    functorch = torch._C._functorch
    if functorch.peek_interpreter_stack() is None:
        return False
    return any(x.key() == functorch.TransformType.Vmap for x in functorch.get_interpreter_stack())
