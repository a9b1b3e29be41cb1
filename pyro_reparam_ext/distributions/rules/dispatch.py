"""Rules that are found by the class of a distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Rule = TypeVar("Rule")


class Rules(Generic[Rule]):
    """One rule for each of some classes, and for what derives from them.

    The rule of the nearest class serves. ``overriding``: methods that say the same as the rule; a
    class between that defines one of them has another law, which the rules of its bases don't serve.

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro_reparam_ext.distributions.rules.dispatch import Rules
        >>> ends = Rules()
        >>> @ends.register(dist.Exponential)
        ... def _exponential(fn):
        ...     return 0.0
        >>> ends.of(type("Mine", (dist.Exponential,), {}))(None)
        0.0
        >>> ends.of(dist.Normal) is None
        True
    """

    def __init__(self, *overriding: str) -> None:
        self.overriding = overriding
        self.rules: dict[type, Rule] = {}
        self._found: dict[type, type | None] = {}

    def register(self, *classes: type) -> Callable[[Rule], Rule]:
        """A decorator that makes something the rule of these classes."""

        def register(rule: Rule) -> Rule:
            self.rules.update(dict.fromkeys(classes, rule))
            self._found.clear()
            return rule

        return register

    def of(self, cls: type) -> Rule | None:
        """The rule of a class, if there is one."""
        nearest = self.nearest(cls)
        return None if nearest is None else self.rules[nearest]

    def nearest(self, cls: type) -> type | None:
        """The class whose rule serves another one."""
        if cls not in self._found:
            self._found[cls] = self._nearest(cls)
        return self._found[cls]

    def _nearest(self, cls: type) -> type | None:
        for base in cls.__mro__:
            if base in self.rules:
                return base
            if any(method in vars(base) for method in self.overriding):
                return None
        return None


def defines(cls: type, method: str) -> Any:
    """The class that a method of ``cls`` comes from."""
    return next(base for base in cls.__mro__ if method in vars(base))
