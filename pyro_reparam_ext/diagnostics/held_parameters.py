"""Parameters whose values are put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def held(leaves: Mapping[str, Tensor]) -> Iterator[None]:
    """A context after which parameters have the values that they had before, to the last digit.

    Graphs that have saved them stay usable.
    """
    values = {name: leaf.detach().clone() for name, leaf in leaves.items()}
    try:
        yield
    finally:
        for name, leaf in leaves.items():
            leaf.data.copy_(values[name])
