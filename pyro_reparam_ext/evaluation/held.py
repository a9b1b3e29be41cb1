"""Further runs of a guide at the values of one: with its parameters held, or at copies of values.

A site's distribution may depend on other sites, through which it has to be differentiated: held are not
its tensors, but the parameters that these are made of.

The derivative of the costs in the value of a site alone, and not in what is sampled after it by that
value, is that at a *copy* of the value: guide and model are scored at it, and the guide has sampled
from the value itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..estimators.protocol import Draw
from ..numerics.graph_ends import graph_ends
from ..numerics.substitution import Substitution
from ..parameters import parameters_in
from .control_flow import ControlFlow, provenance_of, untracked
from .recorder import Recorder
from .terms import log_prob_of

RunAgain = Callable[[Recorder], Trace]


class GivenRun(Recorder):
    """A guide at the values of another run of it.

    Args:
        run: that has recorded the guide.
        trace: of that run.
        copies: by name, the values that are given in the place of those of the run. Where there are
            any, the values of Delta sites, which are functions of others, are computed anew.
        tracking: whether values carry the provenance that they had.
    """

    def __init__(
        self, run: Recorder, trace: Trace, copies: Mapping[str, Tensor], *, tracking: bool
    ) -> None:
        super().__init__(run.axes, run.control if tracking else ControlFlow(), tracking)
        self.given = {name: node["value"] for name, node in run.nodes.items()} | dict(copies)
        self.anew = bool(copies)
        self.replayed = trace

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        name, upstream = message["name"], frozenset[str]()
        if message["is_observed"]:
            return upstream
        if self.anew and isinstance(innermost(fn), Delta):
            value = fn()
            if self.tracking:
                upstream = self.upstream[name] | provenance_of(value)
            self.give(message, untracked(value))
        else:
            if self.tracking:
                upstream = provenance_of(self.replayed.nodes[name]["value"])
            self.give(message, self.given[name])
        return upstream

    def subsample(self, message: dict[str, Any]) -> None:
        message["value"], message["done"] = self.replayed.nodes[message["name"]]["value"], True


def run_at_copies(
    copies: Mapping[str, Tensor], run_again: RunAgain, run: Recorder, trace: Trace
) -> tuple[GivenRun, Trace]:
    """The guide at copies of some of its values.

    Args:
        copies: by the name of a site, a copy of its value.
        run_again: runs the guide under a recorder.
        run: that has recorded the guide.
        trace: of that run.
    """
    again = GivenRun(run, trace, copies, tracking=run.tracking)
    return again, _rerun(run_again, again, copies)


@dataclass(frozen=True, eq=False)
class Held:
    """A distribution with the parameters of the guide held: where it is made, and where it is asked.

    That of a flow keeps modules, whose parameters it uses when it scores a value.
    """

    fn: TorchDistribution
    parameters: Mapping[int, Tensor]


def holding(held: Held | None) -> AbstractContextManager[Any]:
    """A context around what is asked of a held distribution; None: there is none."""
    if held is None or not held.parameters:
        return nullcontext()
    return Substitution(held.parameters)


def viewed(draw: Draw) -> Draw:
    """The same draw in other tensors, with what a sampler has noted on them.

    A flow remembers what the last tensor that it has scored was made of, by parameters not held.
    """

    def view(x: Tensor) -> Tensor:
        other = x.view_as(x)
        vars(other).update(vars(x))
        return other

    return draw.map(view)


def held_log_prob(name: str, estimator: Estimator, held: Held, draw: Draw) -> Tensor:
    """The log density of a draw at a held distribution."""
    try:
        with holding(held):
            return log_prob_of(name, estimator.guide_log_prob, held.fn, draw)
    except (AssertionError, KeyError, NotImplementedError) as error:
        raise EstimatorError(
            f"site '{name}': {type(estimator).__name__} scores its value once more, with parameters "
            f"held, and {type(innermost(held.fn)).__name__} has a density at draws of its own only; "
            f"expected one that can be asked anywhere. Use Pathwise, or set gradient='pathwise' in the "
            f"ELBO."
        ) from error


def held_parameters(run: Recorder, trace: Trace) -> dict[int, Tensor]:
    """By the ``id`` of each unconstrained parameter of a guide: the same, detached.

    Those of its trace, and those of plain modules, by which its values move.
    """
    parameters = parameters_in(trace).values()
    values = [node["value"] for node in run.nodes.values() if isinstance(node["value"], Tensor)]
    leaves = [node.variable for node in graph_ends(values)]
    return {id(parameter): parameter.detach() for parameter in (*parameters, *leaves)}


def held_distributions(
    names: Collection[str],
    run_again: RunAgain,
    run: Recorder,
    trace: Trace,
    copies: Mapping[str, Tensor] | None = None,
) -> Mapping[str, Held]:
    """By name, the distributions of some sites with the guide's parameters held.

    Args:
        names: of the sites.
        run_again: runs the guide under a recorder.
        run: that has recorded the guide, at whose values it is run again.
        trace: of that run.
        copies: what it was given itself, if it was one at copies.
    """
    if not names or not torch.is_grad_enabled():
        return {}
    again = GivenRun(run, trace, copies or {}, tracking=False)
    parameters = held_parameters(run, trace)
    with Substitution(parameters):
        _rerun(run_again, again, names)
    return {name: Held(again.nodes[name]["fn"], parameters) for name in names}


def _rerun(run_again: RunAgain, again: Recorder, names: Collection[str]) -> Trace:
    """Runs a guide again, which has to take the same values at its sites and no noise beside them."""
    before, others = torch.get_rng_state(), _other_random_states()
    trace = run_again(again)
    if not torch.equal(before, torch.get_rng_state()) or others != _other_random_states():
        raise other_run(min(names))
    return trace


def _other_random_states() -> tuple[Any, bytes, str]:
    """Those of Python and of numpy."""
    _, numbers, *rest = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(numbers).tobytes(), repr(rest)


def other_run(name: str) -> EstimatorError:
    """The error of a guide that is another one when it is run again."""
    return EstimatorError(
        f"site '{name}': its estimator scores it by another run of the guide, in which the guide drew "
        f"random numbers outside of its sample sites; expected the same run. Draw them at a sample "
        f"site, or use Pathwise."
    )
