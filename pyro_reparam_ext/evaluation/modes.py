"""How a program is run at many values at once: which ways it takes is learned when it is first seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..callers import outside
from ..errors import CannotVectorize
from .costs import Costs
from .terms import Crossing
from .verify import Signature, signature, verify

Vectorize: TypeAlias = bool | Literal["vmap"]
"""``True``: the program broadcasts; ``"vmap"``: under ``vmap``; ``False``: in a loop."""

MODES: tuple[Vectorize, ...] = (True, "vmap", False)
"""From the fastest to the one that takes every program."""
REMEMBERED = 8
"""Programs of one ELBO whose ways are remembered."""


@dataclass(eq=False)
class Way:
    """How one program, a model and its guide, is run.

    ``plates``: dims that its plates take. ``verified``: the shapes at which it was compared with plain
    runs; ``begun``: those at which it is being compared, with what has been. ``crossed``: what was
    found to depend on other elements of a plate than its own.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    mode: Vectorize
    plates: int
    verified: set[Signature] = field(default_factory=set)
    begun: dict[Signature, set[Hashable]] = field(default_factory=dict)
    crossed: set[Crossing] = field(default_factory=set)

    def check(self, runs: list[Costs], look: Callable[[], int]) -> None:
        """Compares a vectorised evaluation with plain runs, the first time at these shapes.

        ``look`` runs the program once and returns the dims of its plates.

        Raises:
            CannotVectorize: it means something else.
        """
        self._note(runs)
        shapes = signature(runs[0])
        if shapes in self.verified or not _can_be_read(runs[0]):
            return
        if shapes not in self.begun and (self.verified or self.begun):
            if look() > self.plates and self.mode is not False:
                raise CannotVectorize("plates are nested more deeply than when it was first run")
        if verify(runs[0], self.begun.setdefault(shapes, set())):
            self.verified.add(shapes)
            del self.begun[shapes]
        self.crossed |= runs[0].program.crossed
        self._note(runs)

    def _note(self, runs: list[Costs]) -> None:
        if self.crossed:
            for run in runs:
                run.program.crossed.update(self.crossed)

    def fall_back(self, error: CannotVectorize) -> None:
        """Goes on to the next way, which takes more programs; says so once."""
        given = self.mode
        if given is False:
            raise error
        self.mode = MODES[MODES.index(given) + 1] if error.ever else False
        self.verified.clear()
        self.begun.clear()
        warnings.warn(
            f"{_sentence(error)} Evaluations are run "
            + (
                "by torch.func.vmap instead, which gives the program its own shapes. "
                if self.mode == "vmap"
                else "one by one instead, which is slower. "
            )
            + f"Pass vectorize_particles={self.mode!r} to the ELBO to say so yourself, or see 'What "
            f"your program must be able to do' in the documentation for a form that takes "
            f"vectorize_particles={given!r}.",
            stacklevel=outside(),
        )


def _can_be_read(costs: Costs) -> bool:
    """Whether values are numbers: not inside of a vmap that goes on outside of the ELBO."""
    return not any(_is_batched(term.log_prob) for term in costs.passes[0].terms)


def _is_batched(x: Tensor) -> bool:
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        if torch._C._functorch.is_batchedtensor(x):
            return True
        x = torch._C._functorch.get_unwrapped(x)
    return False


def _sentence(error: CannotVectorize) -> str:
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
