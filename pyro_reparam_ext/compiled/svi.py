"""``SVI`` whose step is one compiled graph."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.utils._pytree import tree_flatten

from ..callers import outside
from ..elbo import TraceEstimator_ELBO
from ..errors import CannotCapture, CompilerFault, EstimatorError
from ..evaluation.invisible import modules_of
from .backends import Backend, ahead_of_time
from .eager import run_eagerly, unnoticed
from .kinds import VALUES, difference, key_of
from .ranks import Ranks, ranks_of
from .run import Batch, Losses, StoppingRule, run_svi
from .surroundings import Surroundings
from .together import eager_step, kept_by, known_layout, make_parameters

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from .program import CompiledStep

SEEN = 1000
"""Kinds of arguments that are remembered."""
GRAPHS = 8
"""Graphs of one ``CompiledSVI``, at most."""
TRIES = 10
"""Eager runs in which the site behind a value that is not finite is looked for."""


class CompiledSVI(SVI):
    r"""``SVI`` whose step runs loss, gradients and optimiser as one compiled graph.

    A step of SVI is mostly Python: handlers, traces, distributions. Here the step of a model, a guide,
    an ELBO and an optimiser is recorded once as a graph of tensor operations, compiled to machine code,
    and run from then on, with new random numbers each time: the same numbers that
    :class:`~pyro.infer.SVI` draws from the same seed. Parameters, the parameter store and the
    optimiser's state are those of the user's own objects, at any time.

    The first step for arguments of one kind (shapes, types, and whatever is no tensor) is taken by
    ``SVI``, the second one compiles, which takes from some seconds to a minute, and is kept on disk for
    the next process. A program that Python steers by values, counts or random numbers of its own is not
    one graph: that is found and named.

    Args:
        model: as for ``SVI``.
        guide: as for ``SVI``.
        optim: as for ``SVI``. ``Adam``, ``AdamW``, ``SGD`` and Pyro's ``ClippedAdam`` become a part of
            the graph; others take their step by themselves, with the gradients of the graph.
        loss: an ELBO of this package or of Pyro, or a function that returns a differentiable loss.
        fallback: what is done where a step is not one graph: ``"error"`` raises, ``"eager"`` warns
            once and steps as ``SVI`` does.
        group: a process group of ``torch.distributed``, whose processes step together, from the
            parameters of the first: by the mean of gradients, losses and what estimators average.

    Raises:
        EstimatorError: the step can't be captured; or a loss or a gradient is not finite. Parameters
            and state are those from before the step.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> optim = pyro.optim.Adam({"lr": 0.05})
        >>> svi = pre.CompiledSVI(model, guide, optim, pre.TraceEstimator_ELBO())
        >>> losses = svi.run(500, progress=False).losses
        >>> losses.shape
        torch.Size([500])
    """

    backend: Backend = staticmethod(ahead_of_time)

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: PyroOptim,
        loss: ELBO | Callable[..., Any],
        *,
        fallback: Literal["error", "eager"] = "error",
        group: ProcessGroup | None = None,
    ) -> None:
        if fallback not in ("error", "eager"):
            raise EstimatorError(f"fallback: expected 'error' or 'eager', was given {fallback!r}.")
        super().__init__(model, guide, optim, loss)
        self.elbo = loss
        self.fallback = fallback
        self._steps: dict[Hashable, CompiledStep | None] = {}
        self._seen: Counter[Hashable] = Counter()
        self._surroundings: Surroundings | None = None
        self._parts: tuple[Any, ...] = ()
        self._steady = True
        self._finite = torch.ones((), dtype=torch.bool)
        self._full = False
        self._ranks = ranks_of(group)

    def __getstate__(self) -> dict[str, Any]:
        """Without graphs and code, which are made anew where they are needed."""
        kept: dict[str, Any] = {"_steps": {}, "_seen": Counter(), "_surroundings": None, "_parts": ()}
        return {**self.__dict__, **kept}

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Takes one step; returns the loss."""
        self.look_around()
        loss = self.step_without_sync(*args, **kwargs).item()
        if loss - loss != 0:
            self.explain(args, kwargs)
        return loss

    def run(
        self,
        num_steps: int,
        *args: Any,
        batches: Iterable[Batch] | None = None,
        progress: bool = True,
        until: StoppingRule | None = None,
        **kwargs: Any,
    ) -> Losses:
        """Takes many steps, without waiting for one before the next: see :func:`run_svi`."""
        kwargs.update(batches=batches, progress=progress, until=until)
        return run_svi(self, num_steps, *args, **kwargs)

    # -- what run_svi calls -----------------------------------------------------------------------

    def look_around(self) -> None:
        """Notices what changed beside the arguments, and state that was loaded into an optimiser."""
        parts = self.model, self.guide, self.optim, self.elbo
        if self._surroundings is None or any(
            a is not b for a, b in zip(parts, self._parts, strict=False)
        ):
            self._steps.clear()
            self._seen.clear()
            self._surroundings, self._parts = Surroundings(self.model, self.guide, self.elbo), parts
        self._surroundings.look()
        steps = [(key, step) for key, step in self._steps.items() if step is not None]
        if self._steady and not all(step.optimizers.is_steady() for _, step in steps):
            self._steady = False  # from now on, optimisers step by themselves
            self._steps.clear()
        for key, step in steps:
            if not step.is_current():
                self._steps.pop(key, None)

    def step_without_sync(self, *args: Any, **kwargs: Any) -> Tensor:
        """Takes one step; returns the loss, a tensor. NaN says that the step was not taken."""
        if self._ranks is not None:
            return self._step_together(self._ranks, args, kwargs)
        key = self._key(args, kwargs)
        compiled = self._steps.get(key) or self._compiled_if_due(key, args, kwargs)
        if compiled is not None:
            return compiled(args, kwargs)
        if not self._finite:  # a step before this one failed, and is yet to be spoken of
            return torch.tensor(math.nan)
        loss = super().step(*args, **kwargs)
        self._note(args, kwargs)
        return torch.tensor(loss, dtype=torch.float64)

    def explain(
        self, args: tuple, kwargs: dict[str, Any], step: int | None = None, missed: int = 1
    ) -> None:
        """Raises for a value that is not finite, by eager runs, which find the site.

        ``missed``: how many steps were not taken.
        """
        self._finite.fill_(True)
        taken = next((step for step in self._steps.values() if step is not None), None)
        if taken is not None and self._ranks is None:
            taken.optimizers.undo(missed)
        error = self._found_in(args, kwargs)
        if self._ranks is not None:
            self._ranks.hear(error)
        if error is not None:
            raise error
        where = "" if step is None else f" in step {step}"
        raise EstimatorError(
            f"a loss or a gradient was not finite{where}, and no site was found to be the cause at the "
            f"same parameters with other random numbers. The step was not taken. Lower the learning "
            f"rate, or look at the guide's samples for values far out."
        )

    # -- several processes ------------------------------------------------------------------------

    def _step_together(self, ranks: Ranks, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """A step of all processes of a group: whatever each of them does, it is one all-reduce."""
        if not self._finite:  # on all of them
            return torch.tensor(math.nan)
        with ranks.told():
            key = self._key(args, kwargs)
            compiled = self._steps.get(key) or self._compiled_if_due(key, args, kwargs)
            new = compiled is None and not self._seen[key]
        if compiled is None:
            if new:
                make_parameters(self, self.elbo, ranks, args, kwargs)
            loss = eager_step(self, self.elbo, ranks, args, kwargs)
            self._finite.fill_(not loss.isnan())
            self._note(args, kwargs)
        else:
            taken = False
            try:
                loss = compiled(args, kwargs)
                taken = bool(self._finite)
            finally:
                if not taken:
                    compiled.optimizers.undo(1)
        if ranks.mixed is not None and self._finite:  # graphs and eager steps round differently
            ranks.spread(kept_by(self.optim, ranks.mixed.params))
        return loss

    # -- parts ------------------------------------------------------------------------------------

    def _key(self, args: tuple, kwargs: dict[str, Any]) -> Hashable:
        around = self._surroundings.number if self._surroundings is not None else None
        return key_of(around, args, kwargs)

    def _found_in(self, args: tuple, kwargs: dict[str, Any]) -> Exception | None:
        """The error of the site behind a value that is not finite, looked for in eager runs."""
        if not isinstance(self.elbo, ELBO):
            return None
        ours = isinstance(self.elbo, TraceEstimator_ELBO)
        elbo = self.elbo if ours else TraceEstimator_ELBO()
        try:
            for _ in range(TRIES):
                run_eagerly(self, self.elbo, elbo.loss_and_grads, args, kwargs)
        except Exception as error:
            return error
        return None

    def _note(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Remembers the kind of arguments that an eager step had."""
        if not self._seen:
            self._surroundings = None  # the first step makes parameters, and may make modules
        self.look_around()
        if len(self._seen) > SEEN:
            self._seen.clear()
        self._seen[self._key(args, kwargs)] += 1

    def _compiled_if_due(
        self, key: Hashable, args: tuple, kwargs: dict[str, Any]
    ) -> CompiledStep | None:
        """The graph for arguments of a kind that was seen once, if it can be one."""
        if key in self._steps or not self._seen[key] or not self._has_room(key):
            return None
        return self._compile(key, args, kwargs)

    def _has_room(self, key: Hashable) -> bool:
        if len(self._steps) < GRAPHS or self._full:
            return not self._full
        self._full = True
        warnings.warn(
            f"CompiledSVI has compiled {GRAPHS} graphs, for arguments of as many kinds, and steps as "
            f"SVI does for others. What changed last: {difference(list(self._steps)[-1], key)}. Pad "
            f"batches to one shape, or hand numbers that change as tensors.",
            stacklevel=outside(),
        )
        return False

    def _compile(self, key: Hashable, args: tuple, kwargs: dict[str, Any]) -> CompiledStep | None:
        try:
            compiled = self._compiled(args, kwargs)
        except (CannotCapture, CompilerFault) as error:
            if self.fallback == "error":
                raise
            warnings.warn(f"CompiledSVI steps as SVI does: {error}", stacklevel=outside())
            compiled = None
        self._steps[key if compiled is None else self._key(args, kwargs)] = compiled
        return compiled

    def _compiled(self, args: tuple, kwargs: dict[str, Any]) -> CompiledStep:
        # These import sympy: not before they are used.
        from .changes import changing_site
        from .program import CompiledStep, objective
        from .steady import Changes

        for x in tree_flatten((args, kwargs))[0]:
            if not isinstance(x, (Tensor, *VALUES)):
                raise CannotCapture(
                    f"an argument of step() is a {type(x).__name__}, which may change from one step to "
                    f"the next without a trace; expected tensors, numbers, strings, and lists, tuples "
                    f"and dicts of these. Hand its tensors, let the program close over it, or pass "
                    f"fallback='eager'."
                )
        params, expected = self._parameters(args, kwargs)
        surroundings = self._surroundings
        assert surroundings is not None
        before = surroundings.kept()
        layout = known_layout(self._ranks, params, self.elbo)
        try:
            compiled = CompiledStep(
                objective(self.elbo, self.model, self.guide),
                self.optim,
                list(dict.fromkeys(params.values())),
                args,
                kwargs,
                modules=modules_of(self.model, self.guide, *_PYRO_STACK),
                expected=expected,
                finite=self._finite,
                backend=type(self).backend,
                steady=self._steady,
                ranks=self._ranks,
                layout=layout,
            )
        except Changes as error:
            site = changing_site(self.model, self.guide, args, kwargs)
            where = " and ".join(f"at {x}" for x in (site, error.line) if x)
            raise CannotCapture(
                f"the step is another graph each time: something that Python counts, draws or keeps "
                f"changes from one step to the next, {where or 'at an unknown line'}. Hand it to "
                f"step() as an argument, keep it in a buffer of a module, or draw it by torch; or pass "
                f"fallback='eager'."
            ) from None
        self._leave_out(surroundings.changed(before))
        return compiled

    def _leave_out(self, counted: list[str]) -> None:
        """Warns of what the program counts by itself: a graph does not."""
        if not counted or self._surroundings is None:
            return
        self._surroundings.ignore(counted)
        self.look_around()
        warnings.warn(
            f"CompiledSVI: {', '.join(counted)} changed while the program ran. A graph leaves it as it "
            f"is, and what comes to depend on it. If it is to matter, hand it to step() as an "
            f"argument, keep it in a buffer of a module, or pass fallback='eager'; else leave it out.",
            stacklevel=outside(),
        )

    def _parameters(self, args: tuple, kwargs: dict[str, Any]) -> tuple[dict[str, Tensor], float]:
        """The parameters that a step moves, and its loss.

        After the program was compared with plain runs.
        """
        if isinstance(self.elbo, TraceEstimator_ELBO):
            with unnoticed(self, self.elbo):
                self.elbo.complete(self.model, self.guide, args, kwargs)
        params, loss = run_eagerly(self, self.elbo, self.loss_and_grads, args, kwargs)
        return {name: p for name, p in params.items() if p in self.optim.optim_objs}, loss
