"""A loss inside ``DistributedDataParallel``, which averages what it has found when it was made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .errors import EstimatorError


def is_parallel() -> bool:
    """Whether what runs is the forward pass of a ``DistributedDataParallel``."""
    return getattr(DistributedDataParallel, "_active_ddp_module", None) is not None


@contextmanager
def complete(module: nn.Module) -> Iterator[None]:
    """What runs inside trains parameters of the module, and no others.

    Raises:
        EstimatorError: the processes would train a parameter apart from one another.
    """
    known = _names(module)
    with _Params() as met:
        yield
    late = sorted(_names(module) - known)
    if late:
        raise EstimatorError(
            f"DistributedDataParallel does not know {', '.join(late)}, made in the first call of the "
            f"loss: each process would keep its own. Call the loss once before you wrap it: "
            f"with torch.no_grad(): loss(*args)."
        )
    own = set(module.parameters())
    foreign = [name for name, p in met.params.items() if p.requires_grad and p not in own]
    if foreign:
        raise EstimatorError(
            f"DistributedDataParallel does not know the parameters {', '.join(foreign)}, which are in "
            f"Pyro's parameter store and in no module: each process would train its own. Let model and "
            f"guide be modules that own them (PyroModule with PyroParam), with "
            f"pyro.settings.set(module_local_params=True), or use CompiledSVI(..., group=...)."
        )


def _names(module: nn.Module) -> set[str]:
    return {name for kind in (module.named_parameters(), module.named_buffers()) for name, _ in kind}


class _Params(Messenger):
    """Notes the parameters that a program takes from the store."""

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, Tensor] = {}

    def _pyro_post_param(self, message: dict[str, Any]) -> None:
        value = message["value"]
        self.params[message["name"]] = getattr(value, "unconstrained", lambda: value)()
