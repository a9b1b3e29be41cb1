"""``SVI`` whose step is one compiled graph."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..callers import outside
from ..elbo import TraceEstimator_ELBO
from ..errors import CannotCapture, CompilerFault, EstimatorError
from ..evaluation.invisible import invisible, modules_of
from ..temperature import measuring
from .backends import Backend, ahead_of_time
from .run import Batch, Losses, run_svi
from .surroundings import Surroundings

if TYPE_CHECKING:
    from .program import CompiledStep

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
        loss: an ELBO of this package or of Pyro, or a function of model, guide and arguments that
            returns a loss which can be differentiated.
        fallback: what is done where a step is not one graph: ``"error"`` raises, ``"eager"`` warns
            once and steps as ``SVI`` does.

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
    ) -> None:
        if fallback not in ("error", "eager"):
            raise EstimatorError(f"fallback: expected 'error' or 'eager', was given {fallback!r}.")
        super().__init__(model, guide, optim, loss)
        self.elbo = loss
        self.fallback = fallback
        self._steps: dict[Hashable, CompiledStep | None] = {}
        self._seen: Counter[Hashable] = Counter()
        self._surroundings: Surroundings | None = None
        self._full = False

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
        **kwargs: Any,
    ) -> Losses:
        """Takes many steps, without waiting for one before the next: see :func:`run_svi`."""
        return run_svi(self, num_steps, *args, batches=batches, progress=progress, **kwargs)

    # -- what run_svi calls -----------------------------------------------------------------------

    def look_around(self) -> None:
        """Notices what changed beside the arguments, and state that was loaded into an optimiser."""
        if self._surroundings is None:
            self._surroundings = Surroundings(self.model, self.guide)
        self._surroundings.look()
        steps = self._steps.items()
        for key in [key for key, step in steps if step is not None and not step.is_current()]:
            del self._steps[key]

    def step_without_sync(self, *args: Any, **kwargs: Any) -> Tensor:
        """Takes one step; returns the loss, a tensor. NaN says that the step was not taken."""
        key = self._key(args, kwargs)
        compiled = self._steps.get(key)
        if compiled is not None:
            return compiled(args, kwargs)
        if key not in self._steps and self._seen[key] and self._has_room(key):
            compiled = self._compile(key, args, kwargs)
            if compiled is not None:
                return compiled(args, kwargs)
        loss = super().step(*args, **kwargs)
        self.look_around()  # the first step makes parameters
        self._seen[self._key(args, kwargs)] += 1
        return torch.tensor(loss, dtype=torch.float64)

    def explain(self, args: tuple, kwargs: dict[str, Any], step: int | None = None) -> None:
        """Raises for a value that is not finite, by eager runs, which find the site."""
        for compiled in self._steps.values():
            if compiled is not None:
                compiled.finite.fill_(True)
        if isinstance(self.elbo, ELBO):
            ours = isinstance(self.elbo, TraceEstimator_ELBO)
            elbo = self.elbo if ours else TraceEstimator_ELBO()
            for _ in range(TRIES):
                self._run_eagerly(elbo.loss_and_grads, args, kwargs)
        where = "" if step is None else f" in step {step}"
        raise EstimatorError(
            f"a loss or a gradient was not finite{where}, and no site was found to be the cause at the "
            f"same parameters with other random numbers. The step was not taken. Lower the learning "
            f"rate, or look at the guide's samples for values far out."
        )

    # -- parts ------------------------------------------------------------------------------------

    def _key(self, args: tuple, kwargs: dict[str, Any]) -> Hashable:
        around = self._surroundings.number if self._surroundings is not None else None
        if not kwargs and all(type(x) is Tensor for x in args):
            return (around, *map(_kind, args))
        flat, spec = tree_flatten((args, kwargs))
        return (around, spec, *map(_kind, flat))

    def _has_room(self, key: Hashable) -> bool:
        if len(self._steps) < GRAPHS or self._full:
            return not self._full
        self._full = True
        warnings.warn(
            f"CompiledSVI has compiled {GRAPHS} graphs, for arguments of as many kinds, and steps as "
            f"SVI does for others. What changed last: {_difference(list(self._steps)[-1], key)}. Pad "
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
        self._steps[key] = compiled
        return compiled

    def _compiled(self, args: tuple, kwargs: dict[str, Any]) -> CompiledStep:
        # These import sympy: not before they are used.
        from .changes import changing_site
        from .program import Changes, CompiledStep, objective

        loss, backend = objective(self.elbo, self.model, self.guide), type(self).backend
        params, modules = self._parameters(args, kwargs), modules_of(self.model, self.guide)
        try:
            return CompiledStep(loss, self.optim, params, args, kwargs, modules, backend)
        except Changes as error:
            site = changing_site(self.model, self.guide, args, kwargs)
            where = " and ".join(f"at {x}" for x in (site, error.line) if x)
            raise CannotCapture(
                f"the step is another graph each time: something that Python counts, draws or keeps "
                f"changes from one step to the next, {where or 'at an unknown line'}. Hand it to "
                f"step() as an argument, keep it in a tensor that is written in place, or draw it by "
                f"torch; or pass fallback='eager'."
            ) from None

    @contextmanager
    def _invisible(self) -> Iterator[None]:
        """What runs inside leaves no trace, in what estimators learn and in schedules neither."""
        states = self.elbo.states if isinstance(self.elbo, TraceEstimator_ELBO) else nn.ModuleDict()
        with measuring(), invisible(self.model, self.guide, states):
            yield

    def _parameters(self, args: tuple, kwargs: dict[str, Any]) -> list[Tensor]:
        """The parameters that a step moves, after the program was compared with plain runs."""
        if isinstance(self.elbo, TraceEstimator_ELBO):
            with self._invisible():
                self.elbo.complete(self.model, self.guide, args, kwargs)
        params = self._run_eagerly(self.loss_and_grads, args, kwargs)
        return [p for p in params if p in self.optim.optim_objs]

    def _run_eagerly(
        self, loss_and_grads: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """Computes loss and gradients, for nothing but errors; returns the parameters."""
        params: list[Tensor] = []
        with self._invisible(), poutine.trace(param_only=True) as seen:
            try:
                loss_and_grads(self.model, self.guide, *args, **kwargs)
            finally:
                nodes = seen.trace.nodes.values()
                found = (x["value"].unconstrained() for x in nodes if x["type"] == "param")
                params = list(dict.fromkeys(found))
                for p in params:
                    p.grad = None
        return params


def _kind(x: Any) -> Hashable:
    """What has to be the same of an argument for a graph to serve it."""
    if isinstance(x, Tensor):
        return x.shape, x.dtype, x.stride(), x.device, x.requires_grad
    try:
        hash(x)
    except TypeError:
        return type(x), id(x)
    return type(x), x


def _difference(before: Any, after: Any) -> str:
    """What of two keys differs first, in words."""
    for a, b in zip(before[1:], after[1:], strict=False):
        if a != b:
            return f"an argument {a!r} became {b!r}"
    if before[0] != after[0]:
        return "parameters, training modes or settings"
    return "the number of arguments"
