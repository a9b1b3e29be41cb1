"""The distributions of guide sites with the parameters of the guide held.

A site's distribution may depend on other sites, through which it has to be differentiated: held are not
its tensors, but the parameters that these are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.protocol import Draw
from ..numerics.substitution import Substitution
from .control_flow import ControlFlow
from .recorder import Recorder

Score = TypeVar("Score")


@dataclass(frozen=True)
class Held:
    """A distribution of a guide that scores with the guide's parameters held.

    Those of a flow are read when it scores, not when it is made.
    """

    fn: TorchDistribution
    parameters: Mapping[int, Tensor]

    def scored(self, score: Callable[[TorchDistribution, Draw], Score], draw: Draw) -> Score:
        """``score`` of the distribution and the draw."""
        # A flow scores the very tensor that it has made last by what it kept of making it.
        with Substitution(self.parameters):
            return score(self.fn, draw.map(lambda x: x.view_as(x)))


class HeldRun(Recorder):
    """A guide at the values of another run of it."""

    def __init__(self, run: Recorder, trace: Trace) -> None:
        super().__init__(run.axes, ControlFlow(), tracking=False)
        self.values = {name: node["value"] for name, node in run.nodes.items()}
        self.replayed = trace

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        if not message["is_observed"]:
            self.give(message, self.values[message["name"]])
        return frozenset()

    def subsample(self, message: dict[str, Any]) -> None:
        message["value"], message["done"] = self.replayed.nodes[message["name"]]["value"], True


def held_parameters(trace: Trace) -> dict[int, Tensor]:
    """By the ``id`` of each unconstrained parameter in a trace: the same, detached."""
    nodes = [node for node in trace.nodes.values() if node["type"] == "param"]
    parameters = [node["value"].unconstrained() for node in nodes]
    return {id(parameter): parameter.detach() for parameter in parameters}


def held_sites(
    names: Collection[str],
    run_again: Callable[[Recorder], object],
    run: Recorder,
    trace: Trace,
) -> Mapping[str, Held]:
    """By name, the distributions of some sites with the guide's parameters held.

    Args:
        run_again: runs the guide under a recorder.
        run: that has recorded the guide, at whose values it is run again.
        trace: of that run.
    """
    if not names or not torch.is_grad_enabled():
        return {}
    again, before = HeldRun(run, trace), torch.get_rng_state()
    parameters = held_parameters(trace)
    with Substitution(parameters):
        run_again(again)
    if not torch.equal(before, torch.get_rng_state()):
        raise EstimatorError(
            f"site '{min(names)}': its estimator scores it by another run of the guide, in which the "
            f"guide drew random numbers outside of its sample sites; expected the same run. Draw them "
            f"at a sample site, or use Pathwise."
        )
    return {name: Held(again.nodes[name]["fn"], parameters) for name in names}
