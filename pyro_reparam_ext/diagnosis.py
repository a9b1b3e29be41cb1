"""Which site and which parameter a loss that is not finite comes from.

A program's own error is always what is raised: what is found out about it is a note on it.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .distributions.rules.discrete import log_prob
from .distributions.rules.wrappers import innermost
from .errors import EstimatorError
from .estimators.base import Estimator
from .evaluation.costs import Costs
from .evaluation.first_run import plain_traces
from .evaluation.invisible import invisible
from .evaluation.mean import expectation
from .evaluation.modes import is_captured

REMEDY = (
    "Restore the parameters from before they diverged and lower the learning rate or clip gradients "
    "(pyro.optim.ClippedAdam); check the data for values that are not finite or outside the support."
)

IMPOSSIBLE = (
    "the model gives probability 0 to a value that the guide gives a positive one. Let the model allow "
    "it, or exclude it in the guide too, by a logit of -inf."
)


Met: TypeAlias = dict[str, tuple[Estimator, TorchDistribution]]
"""The sites that a run has met, with their estimators."""


def diagnose(
    error: Exception,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    met: Met,
) -> None:
    """Says which site and parameter are not finite, where that made a program fail.

    A distribution's complaint about its parameters becomes one that names them, which is raised; any
    other error stays what it is, with a note.
    """
    if is_captured():  # what is looked at would be recorded
        return
    if isinstance(error, ZeroDivisionError):
        plate = _empty_plate(error)
        if plate is not None:
            raise EstimatorError(
                f"plate '{plate}': it is empty, so no site inside it has a value; expected at least "
                f"one element. Skip empty batches of data."
            ) from error
        return
    fault = _fault(met)
    if fault is not None:
        raise EstimatorError(fault) from error
    if isinstance(_root(error), EstimatorError):
        return
    cause = _cause(model, guide, args, kwargs)
    if cause is None:
        return
    if _is_of_a_distribution(error):
        raise EstimatorError(f"{cause} {REMEDY}") from error
    add_note(error, f"{cause} {REMEDY}")


def _is_of_a_distribution(error: Exception) -> bool:
    """Whether a distribution or one of our own evaluations raised it, and no line of the program."""
    if isinstance(error, EstimatorError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = frames[-1].f_globals.get("__name__") or ""
    return raised_in.startswith(("torch.distributions", "pyro.distributions", f"{__package__}."))


def add_note(error: Exception, note: str) -> None:
    """Says more of an error without changing what it is."""
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # before Python 3.11
        error.__cause__ = error.__cause__ or EstimatorError(note)


def _root(error: BaseException) -> BaseException:
    """The error that others were made of, as Pyro does when it traces."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _fault(met: Met) -> str | None:
    """The first site whose estimator has an option that is out of range."""
    for name, (estimator, fn) in met.items():
        fault = estimator.fault(fn)
        if fault is not None:
            return f"site '{name}': {type(estimator).__name__}: {fault}"
    return None


def _empty_plate(error: ZeroDivisionError) -> str | None:
    """The name of the plate that divided by its size, from where the error was raised."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        plate = frame.f_locals.get("self")
        if isinstance(plate, IndepMessenger):
            return frame.f_locals.get("name") or plate.name
    return None


def loss_error(
    loss: float,
    runs: list[Costs],
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
) -> EstimatorError:
    """The error of a loss that is not finite, of which ``runs`` are the evaluations."""
    given = f"The loss is {loss}, expected a finite number."
    fault = _fault({s.name: (s.estimator, s.fn) for run in runs for s in run.program.sites})
    if fault is not None:
        return EstimatorError(f"{given} {fault}")
    site = _impossible_site(runs)
    if site is not None:
        return EstimatorError(f"{given} site '{site}': {IMPOSSIBLE}")
    cause = _cause(model, guide, args, kwargs)
    cause = cause or "No site or parameter was found to be at fault in another run of the program."
    return EstimatorError(f"{given} {cause} {REMEDY}")


def _impossible_site(runs: list[Costs]) -> str | None:
    """The first latent site whose values the guide allows and the model doesn't."""
    for run in runs:
        latent = {site.name for site in run.program.sites if not site.observed}
        for p in run.passes:
            rows = [True] * (p.ordinary + sum(map(len, p.spans)))
            for term in p.terms:
                if term.side == "model" and term.name in latent:
                    if expectation(run, term, p, rows) == -math.inf:
                        return term.name
    return None


def check_gradients(runs: list[Costs], again: Callable[[], list[Costs]]) -> None:
    """Raises if a gradient is not finite, and drops the gradients.

    The site is looked for in another run of the program, ``again``, which may fail.
    """
    parameters = {name: p for run in runs for name, p in run.program.parameters().items()}
    sums = [p.grad.sum() for p in parameters.values() if p.grad is not None]
    if not sums or bool(torch.stack(sums).isfinite().all()):
        return
    name = next(
        name for name, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()
    )
    for p in parameters.values():
        p.grad = None
    site = _impossible_site(runs)
    if site is not None:
        raise EstimatorError(
            f"The gradient is not finite at parameter '{name}', expected finite numbers. "
            f"site '{site}': {IMPOSSIBLE}"
        )
    try:
        site = _site_of_bad_gradient(again(), parameters)
    except Exception:
        site = None
    at = f"site '{site}': the gradient of its log density" if site else "The gradient"
    raise EstimatorError(
        f"{at} is not finite at parameter '{name}', expected finite numbers. {REMEDY} Distributions "
        f"at the edge of their parameter space (a scale of 0, probabilities of 0 or 1) have such "
        f"gradients."
    )


def _site_of_bad_gradient(runs: list[Costs], parameters: dict[str, Tensor]) -> str | None:
    for run in runs:
        for term in run.passes[0].terms:
            if not term.log_prob.requires_grad:
                continue
            gradients = torch.autograd.grad(
                term.log_prob.sum(), list(parameters.values()), allow_unused=True, retain_graph=True
            )
            if not all(g is None or bool(g.isfinite().all()) for g in gradients):
                return term.name
    return None


def _cause(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> str | None:
    """The first site whose log density is not finite, in a run without validation.

    None if there is no such site, or if the program fails by itself once more: whatever it raises
    here must not hide the error that is being looked into.
    """
    try:
        with (
            torch.no_grad(),
            invisible(model, guide),
            pyro.validation_enabled(False),
            _ZerosWhereSamplersFail(),
        ):
            sides = plain_traces(model, guide, args, kwargs)
            traces = dict(zip(("guide", "model"), sides, strict=True))
            site = _first_bad_site(traces)
            parameter = _first_bad_parameter(traces)
    except Exception:
        return None
    if site is None and parameter is None:
        return None
    parts = [f"site {site}: its log density is not finite." if site else "", parameter or ""]
    return " ".join(part for part in parts if part)


class _ZerosWhereSamplersFail(Messenger):
    """Lets a run go on past a sampler that rejects its parameters, validation or not."""

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if message["done"] or message["is_observed"] or site_is_subsample(message):
            return
        fn = message["fn"]
        try:
            message["value"] = fn()
        except (ValueError, RuntimeError):
            message["value"] = torch.zeros(fn.shape())
        message["done"] = True


def _first_bad_site(traces: dict[str, Trace]) -> str | None:
    for side, trace in traces.items():
        for name, node in trace.nodes.items():
            if node["type"] != "sample" or site_is_subsample(node):
                continue
            if not log_prob(node["fn"], node["value"], hard=False).isfinite().all():
                return f"'{name}' of the {side}{_temperature_of(node['fn'])}"
    return None


def _temperature_of(fn: TorchDistribution) -> str:
    temperature = getattr(innermost(fn), "temperature", None)
    if not isinstance(temperature, Tensor) or bool(((temperature > 0) & temperature.isfinite()).all()):
        return ""
    return f", whose temperature is not positive and finite ({temperature.tolist()})"


def _first_bad_parameter(traces: dict[str, Trace]) -> str | None:
    for trace in traces.values():
        for name, node in trace.nodes.items():
            if node["type"] == "param" and not node["value"].isfinite().all():
                return f"Parameter '{name}' holds values that are not finite."
    return None
