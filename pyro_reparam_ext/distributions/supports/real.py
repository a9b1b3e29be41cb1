"""The real numbers as a support."""

from __future__ import annotations

from typing import Any

from torch.distributions import Transform, biject_to, constraints, transform_to

_Real: Any = type(constraints.real)


class _Line(_Real):
    """The real numbers, where loc and scale are not all that shifts and stretches a variable.

    Pyro takes a law with these parameters on ``constraints.real`` for a family of location and scale,
    whose other parameters are its shape. Its strategies leave this support alone.
    """

    def __repr__(self) -> str:
        return "Real()"


line = _Line()


@biject_to.register(_Line)
@transform_to.register(_Line)
def _to_line(constraint: constraints.Constraint) -> Transform:
    return biject_to(constraints.real)


def is_real(support: constraints.Constraint) -> bool:
    """Whether every coordinate of the values may be any real number."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, _Real)
