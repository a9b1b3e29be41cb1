"""Modules that estimators learn at the sites of a guide, by site and estimator."""

from __future__ import annotations

from torch import nn

from .base import Estimator
from .protocol import Site


def state_at(site: Site, states: nn.ModuleDict) -> nn.Module | None:
    """The module of what its estimator has learned at a site, made and kept at the first call."""
    estimator = site.estimator
    if type(estimator).new_state is Estimator.new_state:
        return None
    key = f"{site.name}/{type(estimator).__name__}".replace(".", "/")
    if key not in states or not estimator.owns(states[key]):
        state = estimator.new_state(site)
        if state is None:
            return None
        states[key] = state.to(site.log_prob.device)
    return states[key]
