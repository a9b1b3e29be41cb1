"""Which alternatives are evaluated together: the passes that one gradient takes."""

from __future__ import annotations

from .program import Program, Span

_FEW = 64
"""A pass of so many evaluations hardly takes longer than one of few: sites may share it."""


def plan(program: Program) -> tuple[tuple[Span, ...], list[tuple[Span, ...]]]:
    """The spans that run with the ordinary evaluation, and those of passes without a graph.

    Sites of few alternatives share a pass with the one before them, if they are in the same plates.
    """
    if not program.branches:
        return (), []
    together: list[Span] = []
    apart: list[tuple[Span, ...]] = []
    room, enumerated, before = 0, 0, None
    for owner, site in enumerate(program.sites):
        enumerated += site.estimator.enumerated
        for number, branch in enumerate(program.branches.get(owner, ())):
            count, chunk = branch.count, branch.chunk or branch.count
            if branch.needs_graph:
                together += [Span(owner, number, 0, count)] if count else []
                continue
            most = min(branch.chunk or _FEW, _FEW)
            surroundings = site.plates, enumerated
            if surroundings == before and count <= min(room, most - sum(map(len, apart[-1]))):
                apart[-1] += (Span(owner, number, 0, count),)
            else:
                room, before = most, surroundings
                for start in range(0, count, chunk):
                    apart.append((Span(owner, number, start, min(start + chunk, count)),))
            room -= count
    return tuple(together), apart
