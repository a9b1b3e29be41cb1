"""The base of the contexts that decide how the noise of weights enters a layer."""

from __future__ import annotations

import warnings
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

from ...callers import outside
from ...distributions.rules.wrappers import innermost
from ...replay import replayer
from .linear_map import LinearMap, UnsupportedLayer
from .mean_field_normal import law_of
from .run import Run
from .weight import RandomWeight, plain, random_weight

PARTICLE_PLATES = ("num_particles_vectorized", "_num_predictive_samples")
"""The plates in which ELBOs and Predictive run a program many times at once."""


class WeightNoiseContext(Messenger):
    """Base of the contexts: gives the model random weights in place of a guide's values.

    Subclasses say how a layer with such a weight is computed: ``estimate``.
    """

    draws_weights: bool
    """Whether all calls with a weight see one draw of it, so that a further call costs no more."""

    def __init__(self, *, batch_dim: int = 0, strict: bool = True) -> None:
        super().__init__()
        self.batch_dim = batch_dim
        self.strict = strict
        self.unbiased = True
        """Whether the expected gradient is that of one draw for all, by the layers met so far."""
        self.unsupported: dict[str, str] = {}
        self._run: Run | None = None
        self._enumerated: tuple[Messenger, str] | None = None
        self._sites = self._weights = 0

    @property
    def name(self) -> str:
        return type(self).__name__

    def estimate(self, call: LinearMap, memory: dict[Any, Any]) -> Tensor:
        """The output of a layer whose weight, and maybe bias, are random.

        ``memory`` lasts as long as the run of the model.
        """
        raise NotImplementedError

    def check_program(self) -> None:
        """Raises where a site is enumerated: its values would need noise with a joint law."""
        if self._enumerated is not None and any(x is self._enumerated[0] for x in _PYRO_STACK):
            raise UnsupportedLayer(
                f"site '{self._enumerated[1]}' is enumerated before it in the same program; call the "
                f"network first"
            )

    def _pyro_sample(self, msg: Any) -> None:
        """Lets whoever records the run know that layers may draw noise, unlike in another run."""
        msg["noisy_layers"] = True

    def _pyro_post_sample(self, msg: Any) -> None:
        """A weight is a site with event dims, outside of plates, that a guide gives a value."""
        name, fn = msg["name"], msg["fn"]
        if msg["infer"].get("_enumerate_dim") is not None:
            tracers = [x for x in _PYRO_STACK if isinstance(x, TraceMessenger)]
            self._enumerated = (tracers[-1] if tracers else self, name)
        if msg["is_observed"]:
            self._check_observed(msg)
            return
        frame = replayer(name)
        if frame is None or plain(msg["value"]) is not frame.trace.nodes[name]["value"]:
            return
        self._sites += 1
        outside = all(frame.name in PARTICLE_PLATES for frame in msg["cond_indep_stack"])
        if not outside or not getattr(fn, "event_dim", 0):
            return
        law = law_of(name, fn, frame.trace)
        self._weights += 1
        if law is not None:
            run = self._run_of(frame, name)
            msg["value"] = random_weight(plain(msg["value"]), law, (name,), run)

    def _check_observed(self, msg: Any) -> None:
        """Data whose law has a weight as a parameter, beside what a layer puts out."""
        fn = innermost(msg["fn"])
        values = [getattr(fn, name) for name in fn.arg_constraints if name in vars(fn)]
        if any(type(value) is Tensor for value in values):
            for value in values:
                if isinstance(value, RandomWeight):
                    value.run.give_away(value, f"the law of '{msg['name']}'")

    def _run_of(self, frame: Messenger, site: str) -> Run:
        run = self._run
        if run is None or run.frame is not frame or site in run.sites:
            run = self._run = Run(self, frame)
        run.sites.add(site)
        return run

    def __exit__(self, *exception: Any) -> Any:
        """Says at the end, unless an error does, what has not been served."""
        self._run = self._enumerated = None
        unsupported, self.unsupported = self.unsupported, {}
        nothing = self._sites and not self._weights
        if exception[0] is not None:
            unsupported, nothing = {}, False
        self._sites = self._weights = 0
        if unsupported:
            layers = "; ".join(f"{layer} ({reason})" for layer, reason in unsupported.items())
            warnings.warn(
                f"{self.name} left the noise of these layers shared by all examples: {layers}.",
                stacklevel=outside(),
            )
        if nothing:
            warnings.warn(
                f"{self.name} met no weight: they are sample sites with event dims (to_event), outside "
                f"of plates.",
                stacklevel=outside(),
            )
        return super().__exit__(*exception)


def noisy_context() -> str:
    """The name of the context that is entered, the innermost of several; empty if there is none."""
    entered = [x.name for x in _PYRO_STACK if isinstance(x, WeightNoiseContext)]
    return entered[-1] if entered else ""
