"""Evaluating a program: the ordinary run of the guide, then all passes of guide and model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape

from ..callers import told
from ..errors import CannotVectorize, EstimatorError
from ..estimators.base import Alternatives, Site
from ..estimators.enumeration import Enumeration
from ..numerics.shapes import broadcast_shapes
from .axes import Hidden, Visible
from .costs import Costs
from .invisible import invisible, same_random_state, unrecorded
from .ordinary import OrdinaryRun, Resolve, StateOf, ordinary_guide, padded
from .passes import Dependencies, Pass, Program
from .plan import plan
from .slices import Group
from .terms import Crossing, scaled_and_masked

__all__ = ["Dependencies", "Layout", "evaluate", "plain_traces", "plate_nesting"]


@dataclass(eq=False)
class Layout:
    """How evaluations are laid out.

    ``plate_dims``: the number of dims that plates and vectorised particles take; None where particles
    and evaluations are run one by one. ``hidden``: whether the program is run under ``vmap``, so that
    it does not see the dims of particles and evaluations; ``random``: whether its own random numbers
    may differ between evaluations then. ``particles``: their plate, where it sees them.
    """

    num_particles: int
    plate_dims: int | None = None
    hidden: bool = False
    random: bool = False
    particles: pyro.plate | None = None

    def axes(self) -> Visible:
        """What the program sees of these dims during one evaluation of it, to be closed after it."""
        if not self.hidden:
            return Visible(self.particles)
        assert self.plate_dims is not None
        return Hidden(self.num_particles, self.plate_dims, self.random)


def plain_traces(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> tuple[Trace, Trace]:
    """Guide and model run once, as without any estimator.

    Not by ``get_trace``, which raises a copy of a program's error.
    """
    with poutine.trace() as of_guide:
        guide(*args, **kwargs)
    with poutine.trace() as of_model, poutine.replay(trace=of_guide.trace):
        model(*args, **kwargs)
    return of_guide.trace, of_model.trace


def initialise(model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> None:
    """Lets a program make what it makes when it is first run: parameters, a prototype."""
    with torch.no_grad(), same_random_state(), unrecorded():
        plain_traces(model, guide, args, kwargs)


def plate_nesting(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    bound: float = math.inf,
) -> int:
    """The number of dims that plates take, from one plain run of the program.

    Raises:
        ValueError: a site has batch dims outside of any plate, in Pyro's words; or plates take more
            dims than ``bound``.
    """
    with invisible(model, guide), torch.no_grad():
        traces = plain_traces(model, guide, args, kwargs)
    nodes = [
        node
        for trace in traces
        for node in trace.nodes.values()
        if node["type"] == "sample" and not site_is_subsample(node)
    ]
    for node in nodes:
        site = {**node, "log_prob": scaled_and_masked(torch.zeros(_batch_shape(node)), node)}
        check_site_shape(site, math.inf)
        check_site_shape(site, bound)
    frames = [frame for node in nodes for frame in node["cond_indep_stack"]]
    return -min((frame.dim for frame in frames if frame.vectorized), default=0)


def _batch_shape(node: dict[str, Any]) -> torch.Size:
    """The shape of the log density of a site, which may be one that can't be scored here."""
    fn, value = node["fn"], node["value"]
    shape = value.shape if isinstance(value, torch.Tensor) else torch.Size()
    own = shape[: max(len(shape) - len(fn.event_shape), 0)]
    try:
        return broadcast_shapes(fn.batch_shape, own)
    except RuntimeError as error:
        raise ValueError(
            f"at site '{node['name']}': the value has shape {tuple(shape)}, which does not broadcast "
            f"with batch_shape {tuple(fn.batch_shape)} and event_shape {tuple(fn.event_shape)}"
        ) from error


def evaluate(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    *,
    resolve: Resolve,
    state: StateOf,
    layout: Layout,
    crossed: set[Crossing],
    track: bool,
) -> list[Costs]:
    """Runs guide and model as often as the estimators of the guide's sites need.

    One result if vectorised; else one per particle, times one per joint value of enumerated sites.
    ``crossed``: what is known, or will be found, to cross the elements of a plate. ``track``: whether
    to find by provenance which cost depends on which sites.
    """

    recorder: OrdinaryRun | None = None

    def run(path: dict[str, int]) -> Costs:
        nonlocal recorder
        axes = layout.axes()
        try:
            recorder = OrdinaryRun(resolve, layout.plate_dims, path, track, axes)
            ordinary = ordinary_guide(guide, args, kwargs, recorder, state)
            program = Program(
                model=model,
                guide=guide,
                args=args,
                kwargs=kwargs,
                resolve=resolve,
                vectorized=layout.plate_dims is not None,
                axes=axes,
                ordinary=ordinary,
                num_particles=layout.num_particles if layout.plate_dims is not None else 1,
                batch_dims=(layout.plate_dims or 0) + len(ordinary.support_sizes),
                max_plate_nesting=math.inf if layout.plate_dims is None else layout.plate_dims,
                crossed=crossed,
            )
            # A loop has no dim that tells what depends on the values of a site.
            follow = bool(ordinary.tracked) and (program.num_latent > 1 or not program.vectorized)
            return _at_once(program, follow) if program.vectorized else _one_by_one(program, follow)
        finally:
            axes.close()

    if layout.plate_dims is not None:
        try:
            return [run({})]
        except Exception as error:
            several = layout.num_particles > 1 or bool(recorder and recorder.support_sizes)
            if isinstance(error, EstimatorError) or not (several or layout.hidden):
                raise
            where = "under vmap" if layout.hidden else f"on dim {-layout.plate_dims}"
            raise CannotVectorize(
                f"model or guide failed when run for all particles and evaluations at once, {where}: "
                f"{told(error)}"
            ) from error
    results = []
    for _ in range(layout.num_particles):
        pending: list[dict[str, int]] = [{}]
        while pending:
            path = pending.pop()
            results.append(run(path))
            pending += _siblings(path, results[-1].program)
    return results


def _siblings(path: dict[str, int], program: Program) -> list[dict[str, int]]:
    """The paths that branch off where a run met enumerated sites that its path did not name."""
    siblings, prefix = [], dict(path)
    for name, size in program.ordinary.support_sizes.items():
        if name not in path:
            siblings += [{**prefix, name: value} for value in range(1, size)]
            prefix[name] = 0
    return siblings


def _at_once(program: Program, track: bool) -> Costs:
    _add_sites(program)
    together, apart = plan(program)
    passes = [program.run(together, ordinary=True, track=track)]
    if apart:
        with torch.no_grad():
            passes += [program.run(groups, ordinary=False) for groups in apart]
    return Costs(program, passes)


def _one_by_one(program: Program, track: bool) -> Costs:
    terms = program.ordinary.terms + program.run_ordinary(track)
    program = replace(program, batch_dims=max((term.log_prob.dim() for term in terms), default=0))
    _add_sites(program)
    passes: list[Pass] = [program.collect((), True, terms, {})]
    for owner, alternatives in program.alternatives.items():
        graph = alternatives.marginal or alternatives.relaxed
        for number in range(alternatives.count):
            with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
                group = Group(owner, number, number + 1)
                passes.append(program.run((group,), ordinary=False))
    return Costs(program, passes)


def _add_sites(program: Program) -> None:
    """The sites, with their alternatives: once the number of batch dims is known."""
    sites, dims = program.ordinary.sites, program.batch_dims
    if any([s.estimator.has_alternatives() or s.estimator.has_surrogate(s.fn) for s in sites]):
        sites = [padded(site, dims) for site in sites]
        program.alternatives = _alternatives(sites)
    program.sites = sites
    program.enumerated = {s.name: s for s in sites if isinstance(s.estimator, Enumeration)}


def _alternatives(sites: list[Site]) -> dict[int, Alternatives]:
    """By the number of a site: those that its estimator asks for."""
    found: dict[int, Alternatives] = {}
    if torch.is_grad_enabled():
        for number, site in enumerate(sites):
            if not site.observed and site.log_prob.requires_grad:
                alternatives = site.estimator.alternatives(site)
                if alternatives is not None and alternatives.count:
                    found[number] = alternatives
    return found
