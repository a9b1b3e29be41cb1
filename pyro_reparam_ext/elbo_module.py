"""The loss of an ELBO as a module."""

from __future__ import annotations

from typing import Any

from pyro.infer.elbo import ELBO, ELBOModule
from torch import Tensor, nn

from .parallel import nothing_apart, wrapper


class EstimatorModule(ELBOModule):
    """A loss whose parameters include what the estimators learn.

    Args:
        states: the modules in which they keep it.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, elbo: ELBO, states: nn.Module) -> None:
        super().__init__(model, guide, elbo)
        self.states = states

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        parallel = wrapper()
        if parallel is None:
            return super().forward(*args, **kwargs)
        with nothing_apart(self, self.states, parallel):
            return super().forward(*args, **kwargs)
