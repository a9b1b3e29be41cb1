"""Sums of one family of summands over many sets that overlap, from as few additions as they allow.

Each site of a chain sums the costs of all that lies downstream of it: its own, and all that the next
site sums. Summed one by one that takes a number of additions that is quadratic in the number of sites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch import Tensor

Summand = TypeVar("Summand")


def shared_sums(
    summands: Iterable[tuple[int, Summand]], total: Callable[[list[Summand]], Tensor]
) -> dict[int, Tensor]:
    """For each owner the sum of its summands; these come with their owners, as the bits of an int.

    ``total`` sums a list. Summands of the same owners are summed once. Then the owners whose first
    summand comes last are served first, and what they have is taken over as a whole by each owner that
    has all of it. Owners without any summand are left out.
    """
    alike: dict[int, list[Summand]] = {}
    for owners, summand in summands:
        alike.setdefault(owners, []).append(summand)
    alike.pop(0, None)
    if len(alike) == 1:
        ((owners, group),) = alike.items()
        return dict.fromkeys(bits(owners), total(group))
    sets: dict[int, int] = {}
    for number, owners in enumerate(alike):
        for owner in bits(owners):
            sets[owner] = sets.get(owner, 0) | 1 << number
    parts = [total(group) for group in alike.values()]
    known: dict[int, tuple[int, Tensor]] = {}  # by their first part: a set, and the sum over it
    sums: dict[int, Tensor] = {}
    for owner, members in sorted(sets.items(), key=_first, reverse=True):
        value: Tensor | None = None
        left = members
        while left:
            first = left & -left
            taken, part = known.get(first, (left, None))
            if part is None or taken & ~left:
                taken, part = first, parts[first.bit_length() - 1]
            value = part if value is None else value + part
            left ^= taken
        assert value is not None
        known[members & -members] = members, value
        sums[owner] = value
    return sums


def _first(owned: tuple[int, int]) -> int:
    return owned[1] & -owned[1]


def bits(number: int) -> Iterator[int]:
    """The places of the ones in a binary number, from the right."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
