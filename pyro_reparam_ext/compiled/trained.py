"""The parameters that an SVI trains: their names, their values as one vector, their learning rates."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import torch
from pyro.infer import SVI
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor, nn

from ..convergence.coordinates import labels, watched
from ..errors import EstimatorError
from .optimizers import optimizer_of


class Trained:
    """The unconstrained parameters that an SVI trains now, in the order of their names."""

    def __init__(self, svi: SVI) -> None:
        self._ids = _ids(svi)
        named = dict(zip(_names(svi), svi.optim.optim_objs, strict=True))
        self.params = {name: named[name] for name in sorted(named)}
        places = watched([p.numel() for p in self.params.values()])
        self.names = tuple(labels(self.params, places))
        sizes = [p.numel() for p in self.params.values()]
        whole = sum(sizes) == len(self.names)
        offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        chosen = [own + offset for own, offset in zip(places, offsets, strict=True)]
        first = next(iter(self.params.values()))
        self.watched = None if whole else torch.cat(chosen).to(first.device)
        """Places in the vector of the coordinates that are watched; None if all of them are."""
        self._values = [p.detach() for p in self.params.values()]
        self._views: list[Tensor] | None = [x.reshape(-1) for x in self._values]
        if not all(x.is_contiguous() and x.device == first.device for x in self._values):
            self._views = None

    def is_current(self, svi: SVI) -> bool:
        """Whether these are the parameters that are trained still."""
        return self._ids == _ids(svi)

    def vector(self) -> Tensor:
        """All values, a copy."""
        if self._views is not None:
            return torch.cat(self._views)
        device = self._values[0].device
        return torch.cat([x.reshape(-1).to(device) for x in self._values])

    def write(self, vector: Tensor) -> None:
        """Gives the parameters these values, in place."""
        parts = vector.split([x.numel() for x in self._values])
        for x, part in zip(self._values, parts, strict=True):
            x.copy_(part.view_as(x))


def check_rates(svi: SVI) -> None:
    """Raises for learning rates that a scheduler sets anew.

    Raises:
        EstimatorError: there is a scheduler.
    """
    if isinstance(svi.optim, PyroLRScheduler):
        raise EstimatorError(
            f"until: it reduces learning rates, which the scheduler of {type(svi.optim).__name__} sets "
            f"itself. Give the SVI an optimiser without a scheduler, such as pyro.optim.Adam, or leave "
            f"reduce= out of the rule."
        )


def reduce_rates(svi: SVI, factor: float) -> None:
    """Multiplies the learning rates of all parameters; a compiled step reads them anew each time."""
    check_rates(svi)
    for optimizer in svi.optim.optim_objs.values():
        for group in optimizer_of(optimizer).param_groups:
            group["lr"] = group["lr"] * factor


def _ids(svi: SVI) -> list[int]:
    return list(map(id, svi.optim.optim_objs))


def _names(svi: SVI) -> Sequence[str]:
    """The names of parameters, in the store or else in the modules of the programs."""
    programs = {"model": svi.model, "guide": svi.guide}
    modules = {kind: x for kind, x in programs.items() if isinstance(x, nn.Module)}
    local = {p: f"{kind}.{name}" for kind, x in modules.items() for name, p in x.named_parameters()}
    store = pyro.get_param_store()
    found = ((p, store.param_name(p) or local.get(p)) for p in svi.optim.optim_objs)
    return [name or f"parameter {i}" for i, (_, name) in enumerate(found)]
