"""Gradient estimates as rows of numbers."""

from collections.abc import Callable, Iterable

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor

from .layouts import Layout


def gradients(
    elbo: ELBO,
    model: Callable[..., object],
    guide: Callable[..., object],
    names: Iterable[str],
    calls: int,
    *args: object,
) -> Tensor:
    """Loss and gradient, flat, of each call: shape ``(calls, 1 + coordinates)``."""
    rows, store = [], pyro.get_param_store()
    for _ in range(calls):
        for parameter in dict(store.named_parameters()).values():
            parameter.grad = None
        loss = elbo.loss_and_grads(model, guide, *args)
        row = [torch.tensor([loss], dtype=torch.float64)]
        for name in names:
            parameter = store._params[name]
            gradient = parameter.grad
            row.append((torch.zeros_like(parameter) if gradient is None else gradient).flatten())
        rows.append(torch.cat(row).detach())
    return torch.stack(rows)


def losses(
    elbo: ELBO, model: Callable[..., object], guide: Callable[..., object], calls: int
) -> Tensor:
    """The loss of each call: shape ``(calls,)``."""
    with torch.no_grad():
        return torch.tensor([elbo.loss(model, guide) for _ in range(calls)], dtype=torch.float64)


def layout_gradients(elbo: ELBO, layout: Layout, calls: int) -> Tensor:
    return gradients(elbo, layout.model, layout.guide, layout.initial, calls)
