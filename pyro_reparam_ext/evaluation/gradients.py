"""Derivatives of the costs in the values that they were evaluated at."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators.protocol import Branch
from .costs import Costs, grouped
from .passes import Pass
from .program import Span
from .terms import Term, joined_runs, rows_at, weighed


@dataclass(frozen=True, eq=False)
class Differentiated:
    """Branch ``number`` of the site ``owner``, and the ``tensor`` to differentiate its costs in."""

    owner: int
    number: int
    branch: Branch
    tensor: Tensor


def gradients(costs: Costs, numbers: Sequence[int], learn: bool) -> dict[int, list[Tensor | None]]:
    """For the branches of some sites, the gradients of the summed costs in their tensors.

    The evaluations of one site don't depend on the alternatives of another: one sum serves them all.
    They do depend on copies of ordinary values, whose derivatives are those of the ordinary evaluation
    alone: another sum. The evaluation that joint branches share counts once. ``learn``: whether control
    variates learn from them.
    """
    asked = [
        Differentiated(number, place, branch, tensor)
        for number in numbers
        for place, branch in enumerate(costs.program.branches.get(number, ()))
        if branch.order and (tensor := differentiated_in(costs, number, branch)) is not None
    ]
    several = len({one.owner for one in asked}) > 1
    found: dict[int, list[Tensor | None]] = {
        number: [None] * len(costs.program.branches[number]) for number in {x.owner for x in asked}
    }

    def summed(one: Differentiated) -> Hashable:
        copied = not one.branch.count and costs.program.sites[one.owner].estimator.scored_at_copy
        ordinary = not one.branch.count and (copied or several)
        # The ordinary evaluation counts once, unless it is averaged for each site in another way.
        return copied, ordinary, ordinary and _averaging(costs, one)

    for alike in grouped(asked, summed):
        derivatives = _derivatives(_total(costs, alike), alike, learn)
        for one, gradient in zip(alike, derivatives, strict=True):
            assert one.branch.tensor is not None
            found[one.owner][one.number] = gradient.reshape(one.branch.tensor.shape)
    return found


def _total(costs: Costs, asked: list[Differentiated]) -> Tensor:
    """The sum of the costs in the evaluations of some branches."""
    joined = {(span.owner, span.branch) for p in costs.passes for span in p.joined}
    asked = [one for one in asked if (one.owner, one.number) not in joined]
    total = torch.zeros((), device=asked[0].tensor.device)
    for alike in grouped(asked, lambda one: _averaging(costs, one)):
        owners: dict[int, list[Differentiated]] = {}
        for one in alike:
            for place in _places_of(costs, one):
                owners.setdefault(place, []).append(one)
        for place, those in owners.items():
            p, runs = costs.passes[place], _runs_of(costs, those, place)
            probs = [p.probs[name].detach() for name in _averaged_over(costs, those[0])]
            weights = [rows_at(x, runs) if x.shape[0] > 1 else x for x in probs]
            for term in _differing(costs, p, those):
                part = weighed(costs.expect(term, p, those[0].owner, runs), weights)
                total = term.added_to(total, part.sum())
    return total


def differentiated_in(costs: Costs, number: int, branch: Branch) -> Tensor | None:
    """The values behind the costs of a branch: the ordinary one as it was before it got more dims."""
    return branch.tensor if branch.count else costs.program.ordinary.sites[number].value


def is_differentiated(branch: Branch, learn: bool) -> bool:
    """Whether the gradient of the costs of a branch is differentiated once more."""
    return branch.order > 1 or (learn and branch.trains)


def _derivatives(total: Tensor, asked: list[Differentiated], learn: bool) -> Sequence[Tensor]:
    """The derivative of the summed costs in each of these tensors."""
    tensors = [one.tensor for one in asked]
    if not total.requires_grad:  # no cost depends on any of them
        return [torch.zeros_like(x) for x in tensors]
    twice = any(is_differentiated(one.branch, learn) for one in asked)
    return torch.autograd.grad(
        total, tensors, create_graph=twice, retain_graph=True, materialize_grads=True
    )


def _places_of(costs: Costs, one: Differentiated) -> list[int]:
    """The passes that the evaluations of a branch are in; the first for the ordinary one."""
    if not one.branch.count:
        return [0]
    return [place for place in costs.places[one.owner] if _spans_of(costs, place, one)]


def _spans_of(costs: Costs, place: int, one: Differentiated) -> list[Span]:
    return [span for span in costs.owned(place, one.owner) if span.branch == one.number]


def _runs_of(costs: Costs, those: list[Differentiated], place: int) -> list[tuple[int, int]]:
    """The evaluations of some branches in a pass, in order."""
    ends: list[tuple[int, int]] = []
    for one in those:
        if not one.branch.count:
            ends.append((0, 1))
        for span in _spans_of(costs, place, one):
            start = costs.start(place, span)
            ends.append((start, start + len(span)))
    return joined_runs(sorted(set(ends)))


def _differing(costs: Costs, p: Pass, those: list[Differentiated]) -> list[Term]:
    """The terms of a pass that may have a gradient in a tensor of these branches."""
    ordinary = any(not one.branch.count for one in those)
    return p.terms if ordinary else costs.varying(p)


def _averaging(costs: Costs, one: Differentiated) -> Hashable:
    """How the costs of a branch are averaged over enumerated sites; None: there are none."""
    if not costs.program.enumerated:
        return None
    return costs.view(one.owner), _averaged_over(costs, one)


def _averaged_over(costs: Costs, one: Differentiated) -> tuple[str, ...]:
    """The sites enumerated before a relaxed one on which its alternatives don't depend.

    One value of its own stands for all of theirs: its gradient is the average over them.
    """
    events = len(costs.program.sites[one.owner].fn.event_shape)
    return tuple(
        other.name
        for other in costs.enumerated.before(one.owner)
        if (dim := costs.enumerated.dim(other)) is not None
        and (one.tensor.dim() < events - dim or one.tensor.shape[dim - events] == 1)
    )
