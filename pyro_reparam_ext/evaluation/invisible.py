"""Runs of a program that must leave no trace: what they change is put back."""

from __future__ import annotations

import functools
import random
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..callers import is_of_the_user
from ..noise import drawn_apart

CONTAINERS = (dict, OrderedDict, defaultdict, list, set)
LIBRARIES = ("torch", "pyro", "numpy")
LONG = 1000
"""Containers with more elements hold data: no module is looked for in them."""


@contextmanager
def invisible(*programs: Callable[..., Any]) -> Iterator[None]:
    """A context in which a program leaves no trace, as far as that can be brought about from outside.

    Pyro's handlers outside see nothing of it, and afterwards these are what they were before: the
    random states of torch (CPU and CUDA), of Python and of numpy; the names and tensors in the
    parameter store; buffers of the modules that the ``programs`` reach; attributes of these
    modules, and of other objects that are called, with what was initialised lazily. What a program
    keeps anywhere else (a variable that it closes over, a file) stays as the run left it.
    """
    with ExitStack() as stack:
        stack.callback(parameter_restorer())
        for x in _objects_of(programs):
            stack.callback(_restorer(x))
        stack.enter_context(same_random_state())
        stack.enter_context(unrecorded())
        yield


def parameter_restorer() -> Callable[[], None]:
    """A function that puts the parameter store back to the names and tensors that it has now.

    Name by name, ``del store[name]`` would fail where one tensor goes by several names.
    """
    store = pyro.get_param_store()
    params, constraints = dict(store._params), dict(store._constraints)

    def restore() -> None:
        for kept, before in ((store._params, params), (store._constraints, constraints)):
            kept.clear()
            kept.update(before)
        names = {p: name for name, p in params.items()}
        names |= {p: name for p, name in store._param_to_name.items() if params.get(name) is p}
        store._param_to_name.clear()
        store._param_to_name.update(names)

    return restore


@contextmanager
def unchanged_on_error() -> Iterator[None]:
    """A context that takes parameters back which were added to the parameter store before an error."""
    restore = parameter_restorer()
    try:
        yield
    except BaseException:
        restore()
        raise


@contextmanager
def unrecorded() -> Iterator[None]:
    """Handlers outside record nothing of what runs inside; all others of them act on it."""
    # Each once: inside of another such context they are there twice.
    own = [x for x in _PYRO_STACK if not isinstance(x, (TraceMessenger, BlockMessenger))]
    acting = list({id(x): x for x in own}.values())
    with poutine.block():
        _PYRO_STACK.extend(acting)  # once more, inside of the block
        try:
            yield
        finally:
            del _PYRO_STACK[len(_PYRO_STACK) - len(acting) :]


@contextmanager
def same_random_state() -> Iterator[None]:
    """The random states of torch, Python and numpy are afterwards what they were before."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    on_cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if on_cuda else ()
    try:
        with torch.random.fork_rng(devices), drawn_apart(None):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        if torch.cuda.is_initialized() and not on_cuda:  # the program was the first to use it
            for generator in torch.cuda.default_generators:
                generator.manual_seed(generator.initial_seed())


# -- what has a state, and is reached from a program ------------------------------------------------


def modules_of(*programs: Callable[..., Any]) -> list[nn.Module]:
    """The modules that programs reach, from closures, globals and attributes."""
    return [x for x in _objects_of(programs) if isinstance(x, nn.Module)]


def _objects_of(roots: Any) -> list[Any]:
    """The modules, and other objects that are called, that programs reach; each once."""
    return [x for x in reached_from(roots) if _has_state(x)]


def reached_from(roots: Any) -> list[Any]:
    """All that programs reach, from closures, globals and attributes; each once."""
    seen, pending = {}, list(roots)
    while pending:
        x = pending.pop()
        if id(x) not in seen:
            seen[id(x)] = x
            pending += _reached_from(x)
    return list(seen.values())


def _has_state(x: Any) -> bool:
    passive = isinstance(x, (FunctionType, MethodType, functools.partial, type, Tensor))
    return callable(x) and not passive and hasattr(x, "__dict__")


def _reached_from(x: Any) -> list[Any]:
    """All that a program may use: closures, defaults and globals of functions, and attributes."""
    if isinstance(x, MethodType):
        owner = x.__self__
        return [x.__func__, owner, *([] if isinstance(owner, type) else _attributes(owner))]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, FunctionType):
        cells = [cell.cell_contents for cell in x.__closure__ or () if _is_filled(cell)]
        of_library = (x.__module__ or "").split(".")[0] in LIBRARIES
        names = () if of_library else x.__code__.co_names
        used = [x.__globals__[name] for name in names if name in x.__globals__]
        defaults = [*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
        return [*cells, *used, *defaults, getattr(x, "__wrapped__", None)]
    if isinstance(x, dict):
        return list(x.values()) if len(x) <= LONG else []
    if isinstance(x, (list, tuple, set)):
        return list(x) if len(x) <= LONG else []
    return [*_attributes(x), *_methods(x)] if _has_state(x) or _is_plain(x) else []


def _methods(x: Any) -> list[FunctionType]:
    """Those that the user wrote."""
    classes = filter(is_of_the_user, type(x).__mro__)
    return [f for cls in classes for f in vars(cls).values() if isinstance(f, FunctionType)]


def _is_plain(x: Any) -> bool:
    """Whether it is an object of the user's, as a configuration that holds a network."""
    passive = isinstance(x, (FunctionType, type, ModuleType, Tensor))
    return hasattr(x, "__dict__") and not passive and is_of_the_user(x)


def _attributes(x: Any) -> list[Any]:
    return list(getattr(x, "__dict__", {}).values())


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


# -- putting back -----------------------------------------------------------------------------------


def _restorer(x: Any) -> Callable[[], None]:
    """A function that puts an object back to the state that it has now."""
    kind, attributes = type(x), dict(vars(x))
    contents = [(value, value.copy()) for value in attributes.values() if type(value) in CONTAINERS]
    own = x._buffers.values() if isinstance(x, nn.Module) else ()
    buffers = [(b, b.clone()) for b in own if not (b is None or is_lazy(b) or b.is_inference())]

    @torch.no_grad()
    def restore() -> None:
        if type(x) is not kind:  # nn.LazyLinear has become nn.Linear, for good
            return
        for name in set(vars(x)) - set(attributes):
            del vars(x)[name]
        vars(x).update(attributes)
        for container, content in contents:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        for buffer, value in buffers:
            if not torch.equal(buffer, value):  # else a graph that has saved it would be lost
                buffer.data.copy_(value)  # a graph that has saved it is none the wiser

    return restore
