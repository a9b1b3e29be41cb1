"""The result of many steps: their losses, and whether and why they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class Losses:
    """The result of many steps.

    Args:
        losses: of shape ``(steps,)``, on the CPU.
        converged: whether the stopping rule ended the run; None if there was none.
        reason: why it ended, or how far it was.
        averaged: the steps between which parameters were averaged; None if they are those of the last.
        errors: Monte Carlo standard errors of the averaged parameters, unconstrained, by the names of
            coordinates.
        reductions: the steps after which learning rates were reduced.
        iterates: unconstrained parameters after every tenth step, of shape ``(rows, coordinates)``: all
            of them, or a hundred that are spread over them.
        steps: how many had been taken at each row.
        names: of the coordinates.
    """

    losses: Tensor
    converged: bool | None = None
    reason: str = ""
    averaged: tuple[int, int] | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    reductions: tuple[int, ...] = ()
    iterates: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    steps: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        last = float(self.losses[-1]) if len(self.losses) else float("nan")
        said = "" if self.converged is None else f", converged={self.converged}: {self.reason}"
        return f"Losses({len(self.losses):,} steps, the last {last:.4g}{said})"

    def plot(self, axes: Any = None) -> np.ndarray:
        """Draws the loss, and some of the watched parameters, with the steps that were averaged.

        Args:
            axes: two axes, of the parameters and the loss; by default those of a new figure.

        Returns:
            The two axes.
        """
        from .plot import plot_run

        return plot_run(self, axes)
