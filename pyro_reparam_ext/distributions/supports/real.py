"""The real numbers as a support."""

from __future__ import annotations

from pyro.distributions import constraints


def is_real(support: constraints.Constraint) -> bool:
    """Whether every coordinate of the values may be any real number."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real
