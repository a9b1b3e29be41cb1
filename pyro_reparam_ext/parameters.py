"""The parameters that programs take from Pyro's store."""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor


def unconstrained(value: Tensor) -> Tensor:
    """The parameter behind a value of ``pyro.param``; the value itself where another stands for it."""
    return getattr(value, "unconstrained", lambda: value)()


def parameters_in(trace: Trace) -> dict[str, Tensor]:
    """By name and unconstrained, the parameters that a trace has met."""
    nodes = trace.nodes.items()
    return {name: unconstrained(node["value"]) for name, node in nodes if node["type"] == "param"}


class ParametersMet(Messenger):
    """Yields, by name and unconstrained, the parameters that are met while it is entered."""

    def __enter__(self) -> dict[str, Tensor]:
        super().__enter__()
        self.found: dict[str, Tensor] = {}
        return self.found

    def _pyro_post_param(self, message: dict[str, Any]) -> None:
        self.found[message["name"]] = unconstrained(message["value"])
