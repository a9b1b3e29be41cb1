r"""The unbiased mean of the costs over the evaluations of a program.

With weights :math:`w_{ij}` of the alternatives of site :math:`i`, the ordinary costs :math:`f_0` and
those of the alternatives :math:`f_{ij}`, it is

.. math::
    f_0 + \sum_i c_i \sum_j w_{ij} (f_{ij} - f_0), \qquad c_i = \frac{1 + n_i}{1 + \sum_k n_k},

where :math:`n_i` counts the weighted alternatives of site :math:`i`: those that follow the law of the
site, with equal weights, all count alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from ..numerics.shapes import broadcast_shapes
from .at_once import outside
from .ordinary import is_copied
from .passes import Pass
from .program import Program, Span
from .terms import Term


class Weights:
    """The weight of each evaluation of a program in the mean of a term.

    The ordinary evaluation stands for all in a loop: where the number of sites depends on the values
    drawn, so would the weights. So it does where a site is scored at a copy of its value, whose
    estimate is that of the whole derivative, by the ordinary evaluation.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        counts = {
            owner: sum(b.count for b in branches if b.weights is not None)
            for owner, branches in program.branches.items()
        }
        averaged = program.vectorized and not any(map(is_copied, program.ordinary.sites))
        self.counts = {owner: n for owner, n in counts.items() if n and averaged}
        self.evaluations = 1 + sum(self.counts.values())
        """Those that the mean is taken over."""

    @cached_property
    def equal(self) -> bool:
        """Whether they all have the same weight."""
        return all(
            isinstance(branch.weights, float)
            and math.isclose(branch.weights * (1 + self.counts[owner]), 1)
            for owner, _, branch in self.program.all_branches()
            if owner in self.counts and branch.weights is not None
        )

    def included(self, p: Pass) -> list[bool]:
        """Which evaluations of a pass belong to the mean."""
        rows = [True] * p.ordinary
        for span in p.spans:
            weighted = span.owner in self.counts and self.program.branch(span).weights is not None
            rows += [weighted] * len(span)
        return rows

    def rows(self, term: Term, p: Pass) -> Tensor:
        """The weight of each evaluation of a pass, shape ``(evaluations, *batch)``, or 1 for dims.

        Raises:
            EstimatorError: they differ between the elements of a plate that the term is not in.
        """
        ordinary: Tensor | float = 1.0
        parts: list[Tensor | float] = []
        for span in p.spans:
            part = self._of(term, span)
            parts.append(part)
            ordinary = ordinary - (part.sum(0) if isinstance(part, Tensor) else part * len(span))
        if p.ordinary:
            parts.insert(0, ordinary if not isinstance(ordinary, Tensor) else ordinary[None])
        lengths = [1] * p.ordinary + [len(span) for span in p.spans]
        # shape: (evaluations, *batch), or 1 for dims in which all weights agree
        return torch.cat(list(self._stacked(parts, lengths, term)))

    def _of(self, term: Term, span: Span) -> Tensor | float:
        weights = self.program.branch(span).weights
        if weights is None or span.owner not in self.counts:
            return 0.0
        if isinstance(weights, Tensor):
            if not self._is_inside(term, span.owner):
                return 0.0
            weights = weights[span.start : span.stop].detach()
        return weights * ((1 + self.counts[span.owner]) / self.evaluations)

    def _is_inside(self, term: Term, owner: int) -> bool:
        """Whether a term lies in the plates of a site with weights of its own in each element."""
        site = self.program.sites[owner]
        missing = site.plates - set(term.plates)
        if not missing:
            return True
        if term.upstream is not None and site.name not in term.upstream:
            return False  # and does not depend on the site
        raise outside(f"'{site.name}'", site, term, sorted(missing)[0], "weighs alternatives")

    def _stacked(self, parts: list[Tensor | float], lengths: list[int], term: Term) -> Iterator[Tensor]:
        dims = self.program.batch_dims
        shape = broadcast_shapes(
            (1,) * dims, *(part.shape[1:] for part in parts if isinstance(part, Tensor))
        )
        for part, length in zip(parts, lengths, strict=True):
            if isinstance(part, Tensor):
                yield part.expand(length, *shape)
            else:
                yield term.log_prob.new_full((length, *shape), part)
