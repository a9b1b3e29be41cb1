"""Which alternatives are evaluated together: the passes that one gradient takes."""

from __future__ import annotations

from .program import Program, Span

_FEW = 64
"""A pass of so many evaluations hardly takes longer than one of few: sites may share it."""
_NUMBERS = 2**26
"""A pass of so many numbers, in the values of all sites, takes no less time than several of fewer."""


def together(program: Program) -> tuple[Span, ...]:
    """The spans that run with the ordinary evaluation."""
    return tuple(
        Span(owner, number, 0, branch.count)
        for owner, number, branch in program.all_branches()
        if branch.needs_graph and branch.count and not branch.joint
    )


def jointly(program: Program) -> list[Span]:
    """The spans of joint branches: each for a pass of its own, if no other one takes it along."""
    return [
        Span(owner, number, 0, branch.count)
        for owner, number, branch in program.all_branches()
        if branch.joint
    ]


def apart(program: Program) -> list[tuple[Span, ...]]:
    """The spans of passes without a graph, once the model has been run.

    Sites of few alternatives share a pass with the one before them, if they are in the same plates.
    Those of many take several passes, where memory would grow with their number.
    """
    passes: list[tuple[Span, ...]] = []
    fitting = max(1, _NUMBERS // max(program.footprint, 1))
    room, enumerated, before = 0, 0, None
    for owner, site in enumerate(program.sites):
        enumerated += site.estimator.enumerated
        for number, branch in enumerate(program.branches.get(owner, ())):
            if branch.needs_graph:
                continue
            count, chunk = branch.count, branch.chunk or fitting
            most = min(chunk, _FEW)
            surroundings = site.plates, enumerated
            if surroundings == before and count <= min(room, most - sum(map(len, passes[-1]))):
                passes[-1] += (Span(owner, number, 0, count),)
            else:
                room, before = most, surroundings
                for start in range(0, count, chunk):
                    passes.append((Span(owner, number, start, min(start + chunk, count)),))
            room -= count
    return passes
