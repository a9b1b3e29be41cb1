"""The trace of a program, with its sites as everything outside of the program sees them."""

from __future__ import annotations

from typing import Any

from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..distributions.rules.wrappers import is_subclass
from ..noise import noise_of
from .axes import Visible
from .control_flow import ControlFlow, provenance_of, untracked, without_provenance

_NONE: frozenset[str] = frozenset()
DRAWN_FOR_ALL = "_drawn_for_all"
"""What ``infer`` has where a recorder has drawn the indices of a plate, which handlers outside see."""


class Recorder(TraceMessenger):
    """Traces a program; ``nodes`` has its sites with all dims and without provenance.

    ``trace`` has what the program itself saw. A subclass says by :meth:`sample` what values sites get;
    it is called outside of ``vmap``, with the distribution in its full form.

    Args:
        axes: which dims the program sees.
        control: where values that carry their provenance report to.
        tracking: whether some values carry their provenance.
    """

    def __init__(self, axes: Visible, control: ControlFlow, tracking: bool) -> None:
        super().__init__()
        self.axes = axes
        self.control = control
        self.tracking = tracking
        self.nodes: dict[str, dict[str, Any]] = {}
        self.upstream: dict[str, frozenset[str]] = {}
        """The provenance of a site's distribution, value, scale and mask."""
        self._laws: dict[str, TorchDistribution] = {}

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        """Gives a site its value, which may be left to Pyro; returns the provenance it is to carry."""
        return _NONE

    def give(self, message: dict[str, Any], value: Tensor) -> None:
        """Hands a value, with all dims, to the program."""
        message["value"], message["done"] = self.axes.hidden(value, message["fn"]), True

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if self.axes.hides:
            with self.axes.suspended():
                provenance = self._sampled(message)
        else:
            provenance = self._sampled(message)
        if provenance:
            message["value"] = self.control.track(message["value"], provenance)

    def _sampled(self, message: dict[str, Any]) -> frozenset[str]:
        fn, name = message["fn"], message["name"]
        if is_subclass(type(fn), (TorchDistributionMixin,)):
            if self.tracking:
                fn, self.upstream[name] = without_provenance(fn)
            self._laws[name] = fn = self.axes.shown(fn)
            return self.sample(message, fn)
        if site_is_subsample(message):
            self.subsample(message)
        return _NONE

    def subsample(self, message: dict[str, Any]) -> None:
        """The indices of a plate are one draw for all particles and evaluations."""
        if self.axes.hides and message["value"] is None:
            with noise_of("plate", message["name"]):
                message["value"] = message["fn"](*message["args"], **message["kwargs"])
            message["done"] = True
            message["infer"][DRAWN_FOR_ALL] = True

    def _pyro_param(self, message: dict[str, Any]) -> None:
        """A parameter is made outside of ``vmap``, and one for all."""
        if self.axes.hides and not message["done"]:
            with self.axes.suspended():
                message["value"] = message["fn"](*message["args"], **message["kwargs"])
                message["done"] = True

    def _pyro_post_param(self, message: dict[str, Any]) -> None:
        self.trace.add_node(message["name"], **message)

    def _pyro_post_sample(self, message: dict[str, Any]) -> None:
        name = message["name"]
        if message["infer"].get("_do_not_trace"):
            super()._pyro_post_sample(message)
        else:  # as there, but for a copy of the copy
            self.trace.add_node(name, **message)
        if "noisy_layers" in message:
            self.control.noisy |= message["noisy_layers"]
        fn = self._laws.get(name)
        if fn is None:
            return
        if not (self.axes.hides or self.tracking):
            self.nodes[name] = self.trace.nodes.get(name, message)
            return
        node = {**message, "fn": fn}
        with self.axes.suspended():
            if self.tracking:
                upstream = self.upstream.get(name, _NONE)
                for key in ("value", "scale", "mask"):
                    upstream |= provenance_of(node[key])
                    node[key] = untracked(node[key])
                self.upstream[name] = upstream
            node["value"] = self.axes.shown_value(node["value"], message["fn"])
            self.nodes[name] = self.axes.shown_site(node)
