"""Strategies that serve a model and its guide at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.infer.reparam.reparam import Reparam
from pyro.infer.reparam.strategies import Strategy


class PerRunStrategy(Strategy):
    """Decides at each run: a model and its guide may share the strategy and differ in the site."""

    def __call__(self, msg_or_fn: dict[str, Any] | Callable[..., Any]) -> Any:
        if not isinstance(msg_or_fn, dict):
            return super().__call__(msg_or_fn)
        reparam: Reparam | None = self.configure(msg_or_fn)
        self.config[msg_or_fn["name"]] = reparam
        return reparam
