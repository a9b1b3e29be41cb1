"""From a step of training, written in Python, to one graph of tensor operations.

The step runs once, and every operation on tensors is recorded. Its parameters, the optimiser's state
and the data are inputs of the graph; tensors that the program keeps elsewhere become inputs too. Python
is gone: what it decided, what it counted and what it drew by itself is a constant.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeGuard

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
    make_fx,
)
from torch.nn.functional import one_hot
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from ..callers import is_of_a_library, line_of, told
from ..errors import CannotCapture
from ..evaluation.control_flow import READS
from ..evaluation.modes import captured
from .constants import is_constant

LINE = "line of the program"
"""The key, in a node's ``meta``, of the line that it comes from."""
OBJECTIVE = f"{__package__}.program"
"""The module that calls the program."""
REMEDY = (
    "Let the program decide by tensor operations (torch.where, indexing by a tensor) in place of "
    "Python's, with shapes that don't depend on values, or pass fallback='eager'."
)


def capture(
    step: Callable[..., list[Tensor]],
    state: Sequence[Tensor],
    data: Sequence[Tensor],
    modules: Sequence[nn.Module],
) -> GraphModule:
    """The graph of ``step(write_buffers)``, a function of ``state`` and ``data``.

    These are the very tensors that the step uses. What it writes to ``state``, and to buffers of the
    ``modules`` that the program uses, is undone.

    Raises:
        CannotCapture: names the line of the user's program.
    """

    def watched(*_: Tensor) -> list[Tensor]:
        with _Watch():
            return step(buffers.write)

    with _kept(state), Buffers(modules) as buffers, captured():
        with torch.random.fork_rng(), pyro.validation_enabled(False):
            try:
                gm = recorded(watched, [*state, *data])
            except CannotCapture:
                raise
            except Exception as error:
                if "value out of a tracing tensor" in str(error):  # by what is no torch function
                    raise _reads(line_of(error)) from error
                raise CannotCapture(
                    f"the step can't be captured as one graph: {told(error).rstrip('.')}. {REMEDY}"
                ) from error
    node = _shape_of_values(gm)
    if node is not None:
        raise _reads(node.meta.get(LINE))
    return gm


def recorded(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """The graph of a function of these very tensors."""
    # One mode in which the shapes of all nodes are kept: torch would make one for each.
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function, _allow_non_fake_inputs=True)(*inputs)


def drawn_elsewhere() -> list[Any]:
    """The states of Python's and numpy's random numbers, which a graph can't draw."""
    return [random.getstate(), *map(str, np.random.get_state())]


def _shape_of_values(gm: GraphModule) -> Node | None:
    """The first node whose shape depends on values that are not the same each time."""
    constant: set[Node] = set()
    for node in gm.graph.nodes:
        tags = getattr(node.target, "tags", ())
        if node.op == "get_attr":
            constant.add(node)
        elif node.op == "call_function" and torch.Tag.nondeterministic_seeded not in tags:
            if all(x in constant for x in node.all_input_nodes):
                constant.add(node)
        if torch.Tag.dynamic_output_shape in tags and node not in constant:
            if node.target is not torch.ops.aten.index.Tensor:
                return node
            indices = [x for x in node.args[1] if x is not None and x not in constant]
            if any(x.meta["val"].dtype is torch.bool for x in indices):
                return node
    return None


@contextmanager
def _kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Their values and gradients are afterwards what they were."""
    before = [(x, x.detach().clone(), x.grad) for x in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for x, value, grad in before:
                x.copy_(value)
                x.grad = grad


class _Watch(TorchFunctionMode):
    """Raises where the program makes a number of a tensor of the graph: it would be a constant.

    And notes the lines of the program.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if _is_scalar_index(func, args):
            return func(args[0], args[1].unsqueeze(0)).squeeze(0)
        if func is one_hot and len(args) > 1 and _node_of(args[0]) is not None:
            return (args[0].unsqueeze(-1) == torch.arange(args[1], device=args[0].device)).long()
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and any(map(_has_nodes, args)):
            raise _reads(_line(sys._getframe(1)))
        if (func in READS or _selects(func, args)) and any(_node_of(x) is not None for x in args):
            if func in READS and all(map(_is_written_out, args)):
                with disable_proxy_modes_tracing():
                    return func(*args, **(kwargs or {}))
            return _read(func, args, sys._getframe(1))
        if func is Tensor.register_hook and getattr(args[1], "__module__", None) == "pyro.util":
            return None  # warns of NaN
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and (node := _node_of(result)) is not None:
            node.meta.setdefault(LINE, _line(sys._getframe(1)))
        return result


def _read(func: Callable[..., Any], args: tuple, frame: FrameType) -> Any:
    """The answer to a read of a tensor as a number, for Pyro's ELBOs and validation; others raise."""
    name = frame.f_globals.get("__name__", "")
    if func is Tensor.__bool__ and (
        frame.f_code.co_name == "_validate_sample" or name.startswith("pyro.distributions.transforms")
    ):
        return True  # a distribution made before the capture; what flows assert of their values
    if name.startswith(("pyro.infer.", "pyro.util")):
        if func is Tensor.item:  # the loss, which stays a tensor
            return args[0].detach()
        if func is Tensor.__bool__:  # no value is NaN; all probabilities are positive
            return frame.f_code.co_name == "compute_expectation"
    raise _reads(_line(frame))


def _reads(line: str | None) -> CannotCapture:
    return CannotCapture(
        f"the program reads a value as a Python number (a branch, .item(), a shape that depends on it) "
        f"at {line or 'an unknown line'}, which a graph can't follow. {REMEDY}"
    )


def _is_scalar_index(func: Callable[..., Any], args: tuple) -> bool:
    """Whether it is ``x[z]`` for one integer ``z``, which torch reads as a number."""
    if func is not Tensor.__getitem__ or not isinstance(args[1], Tensor):
        return False
    integer = not args[1].dtype.is_floating_point and args[1].dtype is not torch.bool
    return args[1].dim() == 0 and integer and _node_of(args[1]) is not None


def _has_nodes(x: Any) -> bool:
    """Whether a list has tensors of the graph in it."""
    return type(x) in (list, tuple) and any(_has_nodes(y) or _node_of(y) is not None for y in x)


def _selects(func: Callable[..., Any], args: tuple) -> bool:
    """Whether the shape of ``x[mask]`` depends on the values of ``mask``."""
    if func is not Tensor.__getitem__:
        return False
    indices = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _node_of(x: Any) -> Node | None:
    """The node of the graph that computes a tensor, from its inputs or by drawing it."""
    mode = get_proxy_mode()
    if mode is None or not isinstance(x, Tensor):
        return None
    return get_proxy_slot(x, mode.tracer, None, lambda slot: slot.proxy.node)


def _is_written_out(x: Any) -> bool:
    """Whether it is a number, or a tensor of numbers that the program writes out."""
    node = _node_of(x)
    return not isinstance(x, Tensor) or (node is not None and is_constant(node))


def _line(frame: FrameType | None) -> str | None:
    """The line of the program that a frame was called from; None outside of any."""
    while frame is not None and frame.f_globals.get("__name__") != OBJECTIVE:
        if not is_of_a_library(frame):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


class Buffers:
    """Buffers are written in place, also where one of the ``modules`` binds new tensors to them.

    Afterwards they are what they were; so are those of other modules that run (schedules, what
    estimators learn), which write theirs in place.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.bound = [
            (module, name, buffer)
            for module in modules
            for name, buffer in module._buffers.items()
            if _is_state(buffer)
        ]

    def __enter__(self) -> Buffers:
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        for _, _, buffer in self.bound:
            self._keep(buffer)
        self.hook = nn.modules.module.register_module_forward_pre_hook(self._see)
        return self

    def _see(self, module: nn.Module, args: tuple) -> None:
        for buffer in filter(_is_state, module._buffers.values()):
            self._keep(buffer)

    def _keep(self, buffer: Tensor) -> None:
        if id(buffer) not in self.before:
            self.before[id(buffer)] = buffer, buffer.clone()

    def write(self) -> None:
        """Copies what was bound in the place of a buffer into it."""
        for module, name, buffer in self.bound:
            now = module._buffers.get(name)
            if now is not buffer and now is not None:
                buffer.copy_(now)
                module._buffers[name] = buffer

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        self.hook.remove()
        for module, name, buffer in self.bound:
            module._buffers[name] = buffer
        for buffer, before in self.before.values():
            buffer.copy_(before)


def _is_state(x: Tensor | None) -> TypeGuard[Tensor]:
    """Not of a module that is run by ``torch.func`` with other tensors in the place of its own."""
    if x is None or x.requires_grad or is_lazy(x) or x.is_inference():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)
