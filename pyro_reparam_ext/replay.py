"""The guide's trace that a model is run against."""

from __future__ import annotations

from typing import Any

from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK


def replayer(name: str) -> ReplayMessenger | None:
    """The handler that gives this site the value of a guide's sample site, if any."""
    for handler in _PYRO_STACK:
        if isinstance(handler, ReplayMessenger) and handler.trace is not None:
            node = handler.trace.nodes.get(name)
            if node is not None and node["type"] == "sample":
                return handler
    return None


def replayed_node(name: str) -> dict[str, Any] | None:
    """The sample site of this name in the guide's trace at which a model is run, if any."""
    handler = replayer(name)
    return None if handler is None else handler.trace.nodes[name]


def is_replayed(name: str) -> bool:
    """Whether the model is run at a guide's value of this site itself."""
    node = replayed_node(name)
    return node is not None and not node["is_observed"]


def is_conditioned(name: str) -> bool:
    """Whether the value of this site is given from outside, as HMC and NUTS do."""
    return any(isinstance(x, ConditionMessenger) and name in x.data for x in _PYRO_STACK)
