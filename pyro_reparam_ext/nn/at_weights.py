"""A call of a network at weights that it does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def call_at(module: nn.Module, weights: dict[str, Tensor], args: tuple, kwargs: dict[str, Any]) -> Any:
    """The output at weights in place of buffers of these names, also of those tied to them.

    Also where ``torch.jit`` traces, as Pyro's ``JitTrace_ELBO`` does: ``functional_call`` refuses.
    """
    if not torch.jit.is_tracing():
        return functional_call(module, weights, args, kwargs)
    with _exchanged(module, weights):
        return module(*args, **kwargs)


@contextmanager
def _exchanged(module: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    chosen = {id(module.get_buffer(name)): weight for name, weight in weights.items()}
    found = [
        (owner._buffers, name, buffer)
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if id(buffer) in chosen
    ]
    try:
        for buffers, name, buffer in found:
            buffers[name] = chosen[id(buffer)]
        yield
    finally:
        for buffers, name, buffer in found:
            buffers[name] = buffer
