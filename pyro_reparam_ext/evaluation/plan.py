"""Which alternatives are evaluated together: the passes that one gradient takes."""

from __future__ import annotations

from ..estimators.enumeration import Enumeration
from .passes import Program
from .slices import Group

_FEW = 64
"""A pass of so many evaluations hardly takes longer than one of few: sites may share it."""


def plan(program: Program) -> tuple[tuple[Group, ...], list[tuple[Group, ...]]]:
    """The groups that run with the ordinary evaluation, and those of passes without a graph.

    Sites of few alternatives share a pass with the one before them, if they are in the same plates.
    """
    if not program.alternatives:
        return (), []
    together: list[Group] = []
    apart: list[tuple[Group, ...]] = []
    room, enumerated, before = 0, 0, None
    for number, site in enumerate(program.sites):
        enumerated += isinstance(site.estimator, Enumeration)
        if number not in program.alternatives:
            continue
        alternatives = program.alternatives[number]
        count, chunk = alternatives.count, alternatives.chunk or alternatives.count
        if alternatives.marginal or alternatives.relaxed:
            together.append(Group(number, 0, count))
            continue
        most = min(alternatives.chunk or _FEW, _FEW)
        surroundings = site.frames, enumerated
        if surroundings == before and count <= min(room, most - sum(map(len, apart[-1]))):
            apart[-1] += (Group(number, 0, count),)
        else:
            room, before = most, surroundings
            for start in range(0, count, chunk):
                apart.append((Group(number, start, min(start + chunk, count)),))
        room -= count
    return tuple(together), apart
