"""Plain runs of a program, as without any estimator: what is learned of it when it is first seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape

from ..numerics.shapes import broadcast_shapes
from .invisible import invisible, same_random_state, unrecorded
from .terms import scaled_and_masked


def plain_traces(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> tuple[Trace, Trace]:
    """Guide and model run once, as without any estimator.

    Not by ``get_trace``, which raises a copy of a program's error.
    """
    with poutine.trace() as of_guide:
        guide(*args, **kwargs)
    with poutine.trace() as of_model, poutine.replay(trace=of_guide.trace):
        model(*args, **kwargs)
    return of_guide.trace, of_model.trace


def initialise(model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> None:
    """Lets a program make what it makes when it is first run: parameters, a prototype."""
    with torch.no_grad(), same_random_state(), unrecorded():
        plain_traces(model, guide, args, kwargs)


def plate_nesting(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    bound: float = math.inf,
) -> int:
    """The number of dims that plates take, from one plain run of the program.

    Raises:
        ValueError: a site has batch dims outside of any plate, in Pyro's words; or plates take more
            dims than ``bound``.
    """
    with invisible(model, guide), torch.no_grad():
        traces = plain_traces(model, guide, args, kwargs)
    nodes = [
        node
        for trace in traces
        for node in trace.nodes.values()
        if node["type"] == "sample" and not site_is_subsample(node)
    ]
    for node in nodes:
        site = {**node, "log_prob": scaled_and_masked(torch.zeros(_batch_shape(node)), node)}
        check_site_shape(site, math.inf)
        check_site_shape(site, bound)
    frames = [frame for node in nodes for frame in node["cond_indep_stack"]]
    return -min((frame.dim for frame in frames if frame.vectorized), default=0)


def _batch_shape(node: dict[str, Any]) -> torch.Size:
    """The shape of the log density of a site, which may be one that can't be scored here."""
    fn, value = node["fn"], node["value"]
    shape = value.shape if isinstance(value, torch.Tensor) else torch.Size()
    own = shape[: max(len(shape) - len(fn.event_shape), 0)]
    try:
        return broadcast_shapes(fn.batch_shape, own)
    except RuntimeError as error:
        raise ValueError(
            f"at site '{node['name']}': the value has shape {tuple(shape)}, which does not broadcast "
            f"with batch_shape {tuple(fn.batch_shape)} and event_shape {tuple(fn.event_shape)}"
        ) from error
