"""A loss inside ``DistributedDataParallel``, which keeps in step what it found when it was made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .errors import EstimatorError
from .parameters import ParametersMet


def wrapper() -> DistributedDataParallel | None:
    """The ``DistributedDataParallel`` whose forward pass runs, if one does."""
    return getattr(DistributedDataParallel, "_active_ddp_module", None)


@contextmanager
def nothing_apart(
    loss: nn.Module, states: nn.Module, parallel: DistributedDataParallel
) -> Iterator[None]:
    """A context that raises if what runs inside trains what ``parallel`` does not keep in step.

    Args:
        loss: a module, of ``parallel`` or a part of it.
        states: what estimators learn.

    Raises:
        EstimatorError: each process would train a parameter or a state by itself.
    """
    with ParametersMet() as met:
        yield
    known = {*parallel._module_parameters, *parallel.modules_buffers}
    own = {name: p for name, p in loss.named_parameters() if p.requires_grad}
    learned = {f"states.{name}": x for name, x in states.named_buffers()}
    late = [name for name, x in {**own, **learned}.items() if x not in known]
    if late:
        raise EstimatorError(
            f"DistributedDataParallel does not know {', '.join(late)}, made in the first call of the "
            f"loss: each process would keep its own. Call the loss once before you wrap it: "
            f"with torch.no_grad(): loss(*args)."
        )
    foreign = [name for name, p in met.items() if p.requires_grad and p not in known]
    if foreign:
        raise EstimatorError(
            f"DistributedDataParallel does not know the parameters {', '.join(foreign)}, which are in "
            f"Pyro's parameter store and in no module: each process would train its own. Let model and "
            f"guide be modules that own them (PyroModule with PyroParam), with "
            f"pyro.settings.set(module_local_params=True), or use CompiledSVI(..., group=...)."
        )
