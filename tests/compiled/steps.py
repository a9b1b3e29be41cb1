"""The same steps by ``SVI`` and as a graph, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam

from pyro_reparam_ext import CompiledSVI
from pyro_reparam_ext.compiled.backends import plain


class GraphSVI(CompiledSVI):
    """Steps that are run as a graph of single operations: captured, and not compiled."""

    backend = staticmethod(plain)


def adam() -> Adam:
    return Adam({"lr": 0.01})


def taken(svi: SVI, args: Callable[[int], tuple], count: int) -> dict[str, torch.Tensor]:
    """Losses, parameters, and what the optimisers keep, after some steps."""
    torch.manual_seed(3)
    losses = [svi.step(*args(number)) for number in range(count)]
    store = pyro.get_param_store()
    left = {name: p.detach().clone() for name, p in store._params.items()}
    for p, optimizer in svi.optim.optim_objs.items():
        kept = getattr(optimizer, "optimizer", optimizer).state[p]
        for key, x in kept.items():
            left[f"{store.param_name(p)}: {key}"] = torch.as_tensor(x, dtype=torch.float64)
    left["losses"] = torch.tensor(losses)
    return left


def assert_same_steps(
    programs: Callable[[], tuple[Any, Any, Any]],
    args: Callable[[int], tuple] = lambda number: (),
    count: int = 4,
    optim: Callable[[], Any] = adam,
    tolerance: float = 1e-5,
    kind: type[SVI] = GraphSVI,
) -> SVI:
    """``programs`` makes model, guide and ELBO; every step after the first is one of a graph."""

    def run(cls: type[SVI]) -> tuple[SVI, dict[str, torch.Tensor]]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model, guide, elbo = programs()
        svi = cls(model, guide, optim(), elbo)
        return svi, taken(svi, args, count)

    (_, eager), (svi, graph) = run(SVI), run(kind)
    assert svi._steps and all(step is not None for step in svi._steps.values())
    assert eager.keys() == graph.keys()
    for name, x in eager.items():
        torch.testing.assert_close(
            graph[name],
            x,
            check_dtype=False,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda said, name=name: f"{name}: {said}",
        )
    return svi
