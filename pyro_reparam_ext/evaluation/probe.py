"""A program run at random values, many at once, and plainly.

The evaluations that estimators ask for may agree with plain runs by accident: the alternatives of a
binary site at ``(0, 0, 0)`` look alike from many sides. Values drawn at random from the supports, one
for each place along the dims of evaluations and particles, don't.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..callers import told
from ..distributions.rules.wrappers import coordinates
from ..errors import CannotVectorize
from ..estimators.protocol import Draw
from ..numerics.shapes import broadcast_shapes
from .axes import Visible
from .control_flow import ControlFlow
from .model_run import ModelRun
from .ordinary import run_guide
from .place import Place, some_indices, unraveled
from .plain import GivenValues
from .program import Program
from .recorder import Recorder
from .rerun import Rerun
from .terms import Key, agree, scaled_and_masked

EVALUATIONS = 7
"""Evaluations of the run: a size that plates and events seldom have."""
ROWS = 4
"""How many of them are compared with a plain run: the first two, and others at random."""


@torch.no_grad()
def probe(program: Program, owner: str | None = None) -> None:
    """Compares a run at random values with plain runs.

    Args:
        program: what was evaluated.
        owner: a site that is to have other values in each evaluation, as those sampled after it whose
            distribution depends on it; None to give each particle other values only.

    Raises:
        CannotVectorize: the program means something else when run at many values at once.
    """
    enumerated = len(program.inner_shape) - len(program.particles)
    shape = (EVALUATIONS, *(1,) * enumerated, *program.particles) if owner else program.particles
    if not shape:
        return
    try:
        guide, scores = _run(program, _Random(program, owner, shape), program.axes, {})
    except _CannotBeDrawn:
        return
    except Exception as error:
        raise CannotVectorize(
            f"{f'site {owner!r}: ' if owner else ''}model or guide failed when run at random values: "
            f"{told(error)}"
        ) from error
    for index in _indices(shape):
        place = Place(shape, index, program.plate_dims)
        values = {
            name: place.of(node["value"], len(node["fn"].event_shape), f"site '{name}'")
            for name, node in guide.items()
            if not node["is_observed"] and isinstance(node["value"], Tensor)
        }
        _compare(program, place, values, scores)


def _compare(
    program: Program, place: Place, values: Mapping[str, Tensor], scores: Mapping[Key, Tensor | None]
) -> None:
    def plain() -> dict[Key, Tensor | None]:
        draws = {name: Draw(value) for name, value in values.items()}
        return _run(program, GivenValues(program, draws, tracking=False), Visible(), values)[1]

    once = plain()
    for key, score in scores.items():
        if key not in once:
            raise CannotVectorize(f"{named(key)} occurs in some evaluations only", ever=False)
        known = once[key]
        if score is None or known is None:
            continue
        own = place.of(score, 0, named(key))
        if agree(own, known):
            continue
        again = plain().get(key)
        if again is not None and agree(known, again):
            raise mismatch(key, own, known)


def mismatch(key: Key, own: Tensor, plain: Tensor) -> CannotVectorize:
    """The error for a term that is another in the vectorised run than in a plain one."""
    return CannotVectorize(
        f"{named(key)} is {_number(own)} in the vectorised run, but {_number(plain)} when the program "
        f"is run plainly at the same values"
    )


def named(key: Key) -> str:
    """The words by which errors name a term."""
    side, name = key
    return f"the log density of site '{name}' of the {side}"


def _number(x: Tensor) -> str:
    if x.numel() == 1:
        return f"{x.item():.6g}"
    return f"of shape {tuple(x.shape)} and sum {x.sum().item():.6g}"


def _indices(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Some places along the hidden dims: one at each of the first two of the leftmost, and others."""
    row = max(torch.Size(shape).numel() // shape[0], 1)
    ends = {unraveled(start + int(torch.randint(row, ())), shape) for start in (0, row)}
    return sorted(ends | set(some_indices(shape, ROWS)))


def _run(
    program: Program, recorder: Recorder, axes: Visible, values: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Any]], dict[Key, Tensor | None]]:
    """The sites of guide and model at what ``recorder`` gives them, and their log densities."""
    trace = run_guide(program.guide, program.args, program.kwargs, recorder).copy()
    for name, node in program.model_values.items():
        trace.add_node(name, **{**node, "value": values.get(name, node["value"])})
    model = ModelRun(axes, ControlFlow(), tracking=False)
    with model, poutine.replay(trace=trace), axes.running():
        program.model(*program.args, **program.kwargs)
    scores: dict[Key, Tensor | None] = {}
    for side, nodes, of in (
        ("guide", recorder.nodes, trace),
        ("model", model.nodes, model.trace),
    ):
        scores.update(_scored(side, nodes, of))
    return {**model.nodes, **recorder.nodes}, scores


def _scored(side: str, nodes: Mapping[str, Any], trace: Trace) -> Iterator[tuple[Key, Tensor | None]]:
    for name, node in nodes.items():
        if name in trace.nodes:
            try:
                log_prob = node["fn"].log_prob(node["value"])
            except (AssertionError, KeyError, NotImplementedError):
                yield (side, name), None  # a density that is known at draws of its own only
            else:
                yield (side, name), scaled_and_masked(log_prob, node)


class _Random(Rerun):
    """Gives each latent site of the guide random values, other ones for each particle, and those of
    ``owner`` for each evaluation as well."""

    def __init__(self, program: Program, owner: str | None, shape: tuple[int, ...]) -> None:
        super().__init__(program, program.axes, ControlFlow())
        self.owner = owner
        plates = (1,) * program.plate_dims
        self.shape, self.particles = shape + plates, program.particles + plates

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        if not message["is_observed"]:
            lead = self.shape if message["name"] == self.owner else self.particles
            shape = broadcast_shapes(fn.batch_shape, lead)
            try:
                value = _random_value(fn.expand(shape))
            except Exception as error:
                raise _CannotBeDrawn from error
            self.give(message, value)
        return frozenset()


class _CannotBeDrawn(Exception):
    """A distribution that can't be expanded, or has no ``sample``."""


def _random_value(fn: TorchDistribution) -> Tensor:
    """Any value of the support, where that is small: what the guide says may hardly vary.

    The first two along the leftmost dim of size 2 or more are the ends of the support, by which a
    maximum or a mean differ most.
    """
    base, shape = coordinates(fn), fn.shape()
    if isinstance(base, torch.distributions.Bernoulli):
        return _with_ends(torch.randint(0, 2, shape), 1).to(base.logits)
    if isinstance(base, (torch.distributions.Categorical, torch.distributions.OneHotCategorical)):
        classes = base.logits.shape[-1]
        one_hot = isinstance(base, torch.distributions.OneHotCategorical)
        index = torch.randint(0, classes, shape[:-1] if one_hot else shape)
        index = _with_ends(index, classes - 1).to(base.logits.device)
        if not one_hot:
            return index
        return torch.nn.functional.one_hot(index, classes).to(base.logits)
    return fn.sample()


def _with_ends(x: Tensor, last: int) -> Tensor:
    dim = next((d for d in range(x.dim()) if x.shape[d] > 1), None)
    if dim is not None:
        x.select(dim, 0).fill_(0)
        x.select(dim, 1).fill_(last)
        if x.shape[dim] > 3:  # the other way round at the other end: a reversed order shows
            x.select(dim, -2).fill_(0)
            x.select(dim, -1).fill_(last)
    return x
