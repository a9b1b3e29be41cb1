"""A call of a network at weights that it does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from ..errors import EstimatorError


def call_at(module: nn.Module, weights: dict[str, Tensor], args: tuple, kwargs: dict[str, Any]) -> Any:
    """The output at weights in place of buffers of these names, also of those tied to them.

    Also where ``torch.jit`` traces, as Pyro's ``JitTrace_ELBO`` does: ``functional_call`` refuses.

    Raises:
        EstimatorError: a buffer, such as a running mean, is updated where ``torch.jit`` traces.
    """
    if not torch.jit.is_tracing():
        return functional_call(module, weights, args, kwargs)
    with _exchanged(module, weights):
        before = {name: (x, x._version) for name, x in module.named_buffers()}
        output = module(*args, **kwargs)
        moved = {
            name
            for name, x in module.named_buffers()
            if name not in before or before[name][0] is not x or before[name][1] != x._version
        }
    # Of running means a kernel does not say that it updates them.
    moved |= {
        f"{name}.running_mean"
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase) and layer.training and layer.track_running_stats
    }
    if moved:
        raise EstimatorError(
            f"to_bayesian: the network updates its buffers {', '.join(sorted(moved))}. A traced ELBO, "
            f"such as JitTrace_ELBO, would do so in its first step alone. Put what has them into "
            f"eval(), or use Trace_ELBO."
        )
    return output


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
