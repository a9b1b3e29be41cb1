"""Notes of what of a program has been compared with plain runs, and need not be again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Warned:
    """A site's lost gradient has been spoken of."""

    site: str


@dataclass(frozen=True)
class OfProgram:
    """A note of a program at some arguments, whatever its estimators are."""

    site: str | None


@dataclass(frozen=True)
class Probed(OfProgram):
    """It was run at random values of a site. ``inner``: sizes of the dims left of those of plates."""

    inner: tuple[int, ...]


@dataclass(frozen=True)
class Crossed(OfProgram):
    """The costs that cross the plates of a site are known."""
