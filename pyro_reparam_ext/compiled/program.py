"""One compiled step, for arguments of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from pyro.infer import ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..elbo import TraceEstimator_ELBO
from ..errors import CannotCapture, CompilerFault
from ..schedule import training_step
from .backends import Backend
from .graph import agree, copied, kept_if_finite
from .halves import Halves, over_ranks
from .optimizers import Optimizers
from .ranks import Layout, Ranks
from .steady import compiling, steady_graph

Objective: TypeAlias = Callable[..., tuple[Tensor, Tensor]]
"""From the arguments of the program to the loss, and what is differentiated."""


def objective(loss: Any, model: Callable[..., Any], guide: Callable[..., Any]) -> Objective:
    """Loss and surrogate loss of an ELBO, or of a function ``loss(model, guide, *args)``.

    Raises:
        CannotCapture: an ELBO of Pyro that has no loss to differentiate.
    """
    if isinstance(loss, ELBO) and not hasattr(loss, "differentiable_loss"):
        raise CannotCapture(
            f"{type(loss).__name__} has no differentiable_loss that a graph could be made of; expected "
            f"an ELBO with one, such as Trace_ELBO. Use TraceEstimator_ELBO, whose ScoreFunction takes "
            f"Pyro's baselines, or pass fallback='eager'."
        )

    def ours(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        runs = loss.evaluate(model, guide, args, kwargs)
        estimate = loss.surrogate(runs, learn=True)
        return estimate.loss, estimate.surrogate

    def other(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        value = loss.differentiable_loss if isinstance(loss, ELBO) else loss
        surrogate = value(model, guide, *args, **kwargs)
        return surrogate.detach(), surrogate

    return ours if isinstance(loss, TraceEstimator_ELBO) else other


class CompiledStep:
    """A step for arguments like those given: the same shapes, types, and values that are no tensors.

    ``ranks`` and ``layout``: the processes that step together, if there are others, and what they
    average. Then the step is two graphs: up to this process's gradients, and from their mean on.

    Raises:
        CannotCapture: the step is not one graph.
        Changes: it is another graph each time.
        CompilerFault: compiled, it computes something else.
    """

    def __init__(
        self,
        objective: Objective,
        optim: PyroOptim,
        params: Sequence[Tensor],
        args: tuple,
        kwargs: dict[str, Any],
        *,
        modules: Sequence[nn.Module],
        expected: float,
        finite: Tensor,
        backend: Backend,
        steady: bool,
        ranks: Ranks | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.params = list(params)
        self.layout = layout
        self.optimizers = Optimizers(optim, self.params, steady)
        self.finite = finite
        self.head = [*self.params, *self.optimizers.tensors, self.optimizers.rates, self.finite]
        flat, self.spec = tree_flatten((args, kwargs))
        self.places = [i for i, x in enumerate(flat) if isinstance(x, Tensor)]
        self.trained: list[bool] = []
        # Tensors of their own, also where the program keeps the same data.
        flat = [x.detach() if isinstance(x, Tensor) else x for x in flat]
        args, kwargs = tree_unflatten(flat, self.spec)
        data = [flat[i] for i in self.places]
        step = partial(self._step, objective, args, kwargs)
        self.graph, self.kept = steady_graph(step, self.head, data, modules)
        self.head = [x.detach() for x in self.head]
        example = [*self.head, *data, *self.kept]
        returned = 1 + (0 if self.optimizers.captured else sum(self.trained))
        with compiling():
            kept_if_finite(self.graph, flag=len(self.head) - 1, returned=returned)
            inputs = list(map(copied, example))
            halves = None if layout is None else Halves(self.graph, inputs, backend)
            self.run = halves or backend(self.graph, inputs)
        _verify(self.run, self.graph, example, len(self.params), expected)
        if halves is not None and ranks is not None and layout is not None:
            halves.watched = ranks.told
            halves.exchange = lambda vector: ranks.mean(layout, vector, captured=True)

    def _step(
        self,
        objective: Objective,
        args: tuple,
        kwargs: dict[str, Any],
        write_buffers: Callable[[], None],
    ) -> list[Tensor]:
        """One step, which is run once to be captured as a graph. Returns the loss and the gradients."""
        with torch.enable_grad(), training_step():
            loss, surrogate = objective(*args, **kwargs)
        grads = _gradients(surrogate, self.params)
        with torch.no_grad():
            if self.layout is not None:
                vector = self.layout.packed(loss, dict(zip(self.params, grads, strict=True)))
                mean, means = self.layout.unpacked(over_ranks(vector))
                loss, grads = mean.to(loss.dtype), [means.get(p) for p in self.params]
            if self.optimizers.captured:
                self.optimizers.step(grads)
            write_buffers()
        self.trained = [grad is not None for grad in grads]
        return [loss, *(grad for grad in grads if grad is not None)]

    def is_current(self) -> bool:
        """Whether parameters and optimisers still keep the tensors that the step reads and writes."""
        same = all(p.data_ptr() == x.data_ptr() for p, x in zip(self.params, self.head, strict=False))
        return same and self.optimizers.is_current()

    def __call__(self, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """One step; returns the loss, which is NaN where the step was not taken."""
        self.optimizers.refresh()
        flat = args if not kwargs and len(args) == len(self.places) else tree_flatten((args, kwargs))[0]
        data = flat if len(flat) == len(self.places) else [flat[i] for i in self.places]
        loss, *grads = self.run([*self.head, *data, *self.kept])
        if not self.optimizers.captured and self.finite:
            rest = iter(grads)
            self.optimizers.eager_step([next(rest) if there else None for there in self.trained])
        return loss


def _gradients(surrogate: Tensor, params: Sequence[Tensor]) -> list[Tensor | None]:
    """None for what the surrogate does not depend on."""
    trained = [p for p in params if p.requires_grad]
    found: Iterator[Tensor | None] = iter(())
    if surrogate.requires_grad:
        found = iter(torch.autograd.grad(surrogate, trained, allow_unused=True))
    return [next(found, None) if p.requires_grad else None for p in params]


def _verify(
    run: Callable[..., Any],
    graph: GraphModule,
    example: Sequence[Tensor],
    params: int,
    expected: float,
) -> None:
    """Compares what was compiled with its graph, and this with an eager run, under the same noise.

    They may differ by what rounding explains. An optimiser can make much of it, where a gradient is
    nothing but rounding: so the graph is run at parameters that differ by as much, too.

    Raises:
        CompilerFault: they differ by more.
        CannotCapture: the loss of the graph is not the ``expected`` one, of the eager run.
    """
    with torch.random.fork_rng():
        state = torch.get_rng_state()
        close = [x * (1 + _ROUNDING * torch.randn_like(x)) for x in example[:params]]
        compiled, plain, nearby = (
            _outcome(f, inputs, state)
            for f, inputs in (
                (lambda *inputs: run(list(inputs)), example),
                (graph, example),
                (graph, [*close, *example[params:]]),
            )
        )
    if not agree(plain[0].new_tensor(expected), plain[0], nearby[0]):
        raise CannotCapture(
            f"the loss of the graph is {plain[0].item():.6g}, and that of an eager step under the same "
            f"random numbers {expected:.6g}: the program sets a seed or a generator of its own, or "
            f"keeps something that each of its runs changes. Leave that out of the program, hand it to "
            f"step() as an argument, or pass fallback='eager'."
        )
    for a, b, c in zip(compiled, plain, nearby, strict=True):
        if not agree(a, b, c):
            raise CompilerFault(
                "the compiled step differs from its own graph, run operation by operation under the "
                "same noise: the compiler is at fault. Pass fallback='eager' to step as SVI does."
            )


_ROUNDING = 1e-6


def _outcome(f: Callable[..., Any], inputs: Sequence[Tensor], state: Tensor) -> list[Tensor]:
    """All tensors that a step computes: those it returns, then its inputs as it leaves them."""
    torch.set_rng_state(state)
    inputs = list(map(copied, inputs))
    returned = f(*inputs)
    return [*returned, *inputs]
