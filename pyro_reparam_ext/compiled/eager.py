"""Eager runs beside compiled steps, of which nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
from pyro.infer import SVI
from pyro.infer.util import torch_item
from torch import Tensor, nn

from ..elbo import TraceEstimator_ELBO
from ..evaluation.invisible import invisible
from ..parameters import ParametersMet
from ..schedule import measuring


@contextmanager
def unnoticed(svi: SVI, elbo: Any) -> Iterator[None]:
    """A context for runs that leave no trace, neither in what estimators learn nor in schedules."""
    states = elbo.states if isinstance(elbo, TraceEstimator_ELBO) else nn.ModuleDict()
    with measuring(), invisible(svi.model, svi.guide, states):
        yield


def run_eagerly(
    svi: SVI, elbo: Any, loss_and_grads: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> tuple[dict[str, Tensor], float]:
    """Computes loss and gradients, and leaves none; returns the parameters and the loss."""
    before = [(p, p.grad) for p in pyro.get_param_store()._params.values()]
    for p, _ in before:
        p.grad = None
    params: dict[str, Tensor] = {}
    try:
        with unnoticed(svi, elbo), ParametersMet() as params:
            loss = loss_and_grads(svi.model, svi.guide, *args, **kwargs)
    finally:
        for p in params.values():
            p.grad = None
        for p, grad in before:
            p.grad = grad
    return params, float(torch_item(loss))
