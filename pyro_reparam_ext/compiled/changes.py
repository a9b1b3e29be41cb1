"""Which site of a program changes from run to run by what is no tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, Transform

from ..evaluation.first_run import plain_traces
from ..evaluation.invisible import invisible
from .graph import same_tensor


def changing_site(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]
) -> str | None:
    """The first site that differs between two runs at the same random numbers of torch."""
    with invisible(model, guide), torch.no_grad():
        state = torch.get_rng_state()
        first = plain_traces(model, guide, args, dict(kwargs))
        torch.set_rng_state(state)
        second = plain_traces(model, guide, args, dict(kwargs))
    for side, a, b in zip(("guide", "model"), first, second, strict=True):
        name = _first_difference(a, b)
        if name is not None:
            return f"site '{name}' of the {side}"
    return None


def _first_difference(a: Trace, b: Trace) -> str | None:
    names = list(dict.fromkeys([*a.nodes, *b.nodes]))
    for name in names:
        x, y = a.nodes.get(name), b.nodes.get(name)
        if x is None or y is None:
            return name
        if x["type"] != "sample" or site_is_subsample(x):
            continue
        if any(not _same(x[key], y[key]) for key in ("fn", "value", "scale", "mask")):
            return name
    return None


def _same(x: Any, y: Any, depth: int = 4) -> bool:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return same_tensor(x, y)
    if type(x) is not type(y):
        return False
    if isinstance(x, (bool, int, float, str, torch.Size)):
        return bool(x == y)
    if isinstance(x, (Distribution, Transform)) and depth:
        return vars(x).keys() == vars(y).keys() and all(
            _same(vars(x)[key], vars(y)[key], depth - 1) for key in vars(x)
        )
    if isinstance(x, (list, tuple)) and depth:
        return len(x) == len(y) and all(_same(a, b, depth - 1) for a, b in zip(x, y, strict=True))
    return True
