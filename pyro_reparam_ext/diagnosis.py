"""Which site and which parameter a loss that is not finite comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample

from .errors import EstimatorError

REMEDY = (
    "Restore the parameters from before they diverged and lower the learning rate or clip gradients "
    "(pyro.optim.ClippedAdam); check the data for values that are not finite or outside the support."
)


@contextmanager
def diagnosed(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> Iterator[None]:
    """Turns a distribution's complaint about a parameter that is not finite into one that names it."""
    try:
        yield
    except EstimatorError:
        raise
    except ValueError as error:
        cause = _cause(model, guide, args, kwargs)
        if cause is None:
            raise
        raise EstimatorError(f"{cause} {REMEDY}") from error


def loss_error(
    loss: float, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> EstimatorError:
    """The error of a loss that is not finite."""
    cause = _cause(model, guide, args, kwargs)
    cause = cause or "No site or parameter was found to be at fault in another run of the program."
    return EstimatorError(f"The loss is {loss}, expected a finite number. {cause} {REMEDY}")


def _cause(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> str | None:
    """The first site whose log density is not finite, in a run without validation."""
    with (
        torch.no_grad(),
        torch.random.fork_rng(),
        poutine.block(),
        pyro.validation_enabled(False),
    ):
        try:
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            replayed = poutine.replay(model, trace=guide_trace)
            traces = {
                "guide": guide_trace,
                "model": poutine.trace(replayed).get_trace(*args, **kwargs),
            }
        except (ValueError, RuntimeError):
            return None
        site = _first_bad_site(traces)
        parameter = _first_bad_parameter(traces)
    if site is None and parameter is None:
        return None
    parts = [f"site {site}: its log density is not finite." if site else "", parameter or ""]
    return " ".join(part for part in parts if part)


def _first_bad_site(traces: dict[str, Trace]) -> str | None:
    for side, trace in traces.items():
        for name, node in trace.nodes.items():
            if node["type"] != "sample" or site_is_subsample(node):
                continue
            if not node["fn"].log_prob(node["value"]).isfinite().all():
                return f"'{name}' of the {side}"
    return None


def _first_bad_parameter(traces: dict[str, Trace]) -> str | None:
    for trace in traces.values():
        for name, node in trace.nodes.items():
            if node["type"] == "param" and not node["value"].isfinite().all():
                return f"Parameter '{name}' holds values that are not finite."
    return None
