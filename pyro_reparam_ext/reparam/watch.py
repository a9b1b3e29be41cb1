"""A watch, once, on what a program does with relaxed and straight-through values under Pyro's ELBOs.

The first time that an ELBO runs a program with such a value to train by it, the program is handed the
value with its provenance, and the record that the ELBO keeps of the run takes the provenance off again.
Where the program reads the value as a number, that raises; at the end of the run, costs that depend on
it without a gradient are warned of. Later runs are as they are without.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, SVI
from pyro.ops.provenance import detach_provenance
from pyro.poutine.reparam_messenger import ReparamMessenger, _get_init_messengers
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..callers import calling
from ..evaluation.control_flow import ControlFlow, without_provenance
from ..evaluation.lost_gradient import REMEDY, reaches, read_as_number, warn_of_lost
from ..ignored import svi_in_step
from ..replay import is_conditioned

_watched: weakref.WeakKeyDictionary[Any, set[CodeType | None]] = weakref.WeakKeyDictionary()
"""Handlers whose programs were watched; where each run makes a new handler, who trains which code."""
_running: weakref.WeakSet[_Run] = weakref.WeakSet()
"""Runs that are being watched."""


def watch(by: str) -> None:
    """Has the program watched whose site is being made, by what errors call ``by``."""
    frame = _applying(sys._getframe(1))
    if frame is None:
        return
    found = frame.f_locals
    handler, message = found["self"], found["msg"]
    if not _running and handler in _watched:
        return
    if not torch.is_grad_enabled() or _is_transformed():
        return
    program: _Program | None = _Program(handler)
    if _current() is None:
        program = None if is_conditioned(message["name"]) else _unwatched(handler, frame)
    if program is None:
        return
    following = message["continuation"]

    def hand_out(message: Any) -> None:
        if following is not None:
            following(message)
        _hand_out(message, by, program)

    message["continuation"] = hand_out


class _Program(NamedTuple):
    """A program that is watched once."""

    owner: Any
    code: CodeType | None = None

    @property
    def is_watched(self) -> bool:
        return self.owner is not None and self.code in _watched.get(self.owner, ())

    def be_watched(self) -> None:
        _watched.setdefault(self.owner, set()).add(self.code)


def _unwatched(handler: ReparamMessenger, frame: FrameType) -> _Program | None:
    """The program that a run trains, unless it has been watched."""
    if handler._args_kwargs is not None:
        return None if handler in _watched or _trainer(frame) is None else _Program(handler)
    code = calling(frame).f_code  # the handler is a context: the next run may have another one
    record = next((x.trace for x in _recorders()), None)
    if _Program(record, code).is_watched:
        return None
    if not _Program(svi_in_step(), code).is_watched:
        program = _Program(_trainer(frame), code)
        if program.owner is not None and not program.is_watched:
            return program
    if record is not None:
        _Program(record, code).be_watched()  # its next site need not ask again
    return None


def _hand_out(message: Any, by: str, program: _Program) -> None:
    """Gives the program the value with provenance, when all handlers have seen it without."""
    value = detach_provenance(message["value"])
    if not value.requires_grad:
        return
    run = _current()
    if run is None:
        run = _Run.begun()
    run.programs.append(program)
    name = message["name"]
    run.soft[name] = value, by
    message["value"] = run.track(message["value"], frozenset([name]))


@dataclass(eq=False)
class _Run(ControlFlow):
    """One run of a program: its soft values with who made them, and what depends on which."""

    side: str = ""
    programs: list[_Program] = field(default_factory=list)
    recorders: list[TraceMessenger] = field(default_factory=list)
    soft: dict[str, tuple[Tensor, str]] = field(default_factory=dict)
    upstream: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def begun(cls) -> _Run:
        """From now on, in all records that are kept of the run."""
        is_model = any(isinstance(handler, ReplayMessenger) for handler in _PYRO_STACK)
        run = cls(side="model" if is_model else "guide", recorders=list(_recorders()))
        for recorder in run.recorders:
            recorder.trace = _Record(recorder.trace, run)
        _running.add(run)
        return run

    def read(self, names: frozenset[str], line: str) -> None:
        """Raises, unless the run is over: what becomes of the loss is no business of the program's."""
        is_over = not any(recorder in _PYRO_STACK for recorder in self.recorders)
        for name in () if is_over else self.soft:
            if name in names:
                raise read_as_number(name, self.soft[name][1], line, _remedy(self.soft[name][1]))

    def cleaned(self, node: dict[str, Any]) -> dict[str, Any]:
        """A node of the record without provenance, which is noted."""
        if node["type"] == "return":
            return {**node, "value": detach_provenance(node["value"])}
        names = frozenset(self.soft)
        upstream: frozenset[str] = frozenset()
        for key in ("fn", "value", "scale", "mask"):
            if key in node:
                plain, inherited = without_provenance(node[key], names)
                node, upstream = {**node, key: plain}, upstream | inherited
        if upstream:
            self.upstream[node["name"]] = upstream
        return node

    def end(self, nodes: dict[str, Any]) -> None:
        """Warns of costs that depend on a soft value without a gradient; the programs are done with."""
        _running.discard(self)
        for program in self.programs:
            program.be_watched()
        upstream, self.upstream = self.upstream, {}
        for name, (value, by) in self.soft.items():
            lost = [
                f"'{other}' of the {self.side}"
                for other, names in upstream.items()
                if name in names and name != other and _is_lost(nodes[other], value)
            ]
            if lost:
                warn_of_lost(name, by, lost, _remedy(by))


class _Record(Trace):
    """The trace of a run that is watched: takes the provenance off what it is given."""

    def __init__(self, trace: Trace, run: _Run) -> None:
        super().__init__(trace.graph_type)
        self.nodes, self._succ, self._pred = trace.nodes, trace._succ, trace._pred
        self.run = run

    def add_node(self, site_name: str, **node: Any) -> None:
        super().add_node(site_name, **self.run.cleaned(node))

    def copy(self) -> Trace:
        """A plain trace: that of a run which is over."""
        self.run.end(self.nodes)
        return super().copy()


def _is_lost(node: dict[str, Any], value: Tensor) -> bool:
    if node["type"] != "sample" or node["mask"] is False or _is_no_cost(node["fn"]):
        return False
    try:
        log_prob = node["fn"].log_prob(node["value"], *node["args"], **node["kwargs"])
        cost = scale_and_mask(log_prob, node["scale"], node["mask"])
    except Exception:  # what can't be scored, the ELBO says in its own words, if it scores it
        return False
    return not reaches(cost, value)


def _is_no_cost(fn: Any) -> bool:
    """Whether it is masked altogether, as the value of a deterministic site is."""
    while fn is not None and getattr(fn, "_mask", None) is not False:
        fn = getattr(fn, "base_dist", None)
    return fn is not None


def _recorders() -> Iterable[TraceMessenger]:
    return (x for x in _PYRO_STACK if isinstance(x, TraceMessenger) and not x.param_only)


def _current() -> _Run | None:
    """The run that is being watched, if one is."""
    return next((x.trace.run for x in _recorders() if isinstance(x.trace, _Record)), None)


def _applying(frame: FrameType | None) -> FrameType | None:
    """The call of the handler that applies a reparameteriser."""
    while frame is not None and frame.f_code is not ReparamMessenger._pyro_sample.__code__:
        frame = frame.f_back
    return frame


def _trainer(frame: FrameType | None) -> ELBO | SVI | None:
    """The SVI or else the ELBO that trains by this run, unless it is ours: these look by themselves."""
    found: ELBO | SVI | None = None
    if not any(True for _ in _recorders()) or _get_init_messengers():
        return None
    while frame is not None and not isinstance(found, SVI):
        if frame.f_code.co_varnames[:1] == ("self",):
            owner = frame.f_locals.get("self")
            if isinstance(owner, ELBO) and (frame.f_code.co_name == "loss" or _is_ours(owner)):
                return None
            if isinstance(owner, (ELBO, SVI)):
                found = owner
        frame = frame.f_back
    return found


def _is_ours(elbo: ELBO) -> bool:
    return any(cls.__module__.startswith("pyro_reparam_ext.") for cls in type(elbo).__mro__)


def _is_transformed() -> bool:
    """Whether torch traces, compiles or transforms the program: none of these takes our tensors."""
    return (
        torch._C._get_tracing_state() is not None
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def _remedy(by: str) -> str:
    return f"Instead of {by}, leave the site discrete, and train by TraceEstimator_ELBO with {REMEDY}"
