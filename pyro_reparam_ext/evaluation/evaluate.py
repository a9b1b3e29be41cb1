"""Evaluating a program: the ordinary run of the guide, then all passes of guide and model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import torch
from pyro.poutine.util import site_is_subsample

from ..callers import told
from ..errors import CannotVectorize, EstimatorError
from ..estimators.protocol import Branch, Site
from ..noise import NoiseSource, noise_of
from ..particles import Scheme
from .axes import Hidden, Visible
from .branches import checked, is_asked
from .costs import Costs
from .objective import Objective
from .ordinary import OrdinaryRun, Resolve, StateOf, ordinary_guide, padded
from .passes import Pass, collect, differentiates_ordinary, ordinary_terms, run_pass
from .plan import apart, jointly, together
from .program import Program, Span
from .terms import Crossing


@dataclass(eq=False)
class Layout:
    """How evaluations are laid out.

    ``plate_dims``: the number of dims that plates and vectorised particles take; None where particles
    and evaluations are run one by one. ``hidden``: whether the program is run under ``vmap``, so that
    it does not see the dims of particles and evaluations; ``random``: whether its own random numbers
    may differ between evaluations then. ``particles``: their plate, where it sees them. ``scheme``: by
    which they are drawn.
    """

    num_particles: int
    plate_dims: int | None = None
    hidden: bool = False
    random: bool = False
    particles: pyro.plate | None = None
    scheme: Scheme = field(default_factory=Scheme)

    def source(self) -> NoiseSource:
        """The noise of the guide's sites."""
        several = self.plate_dims is not None and self.num_particles > 1
        return self.scheme.source(self.num_particles, -(self.plate_dims or 0) if several else None)

    def axes(self) -> Visible:
        """The view that the program has of these dims during one evaluation, to be closed after it."""
        if not self.hidden:
            return Visible(self.particles)
        assert self.plate_dims is not None
        return Hidden(self.num_particles, self.plate_dims, self.random)


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
    objective: Objective,
    track: bool,
) -> list[Costs]:
    """Runs guide and model as often as the estimators of the guide's sites need.

    One result if vectorised; else one per particle, times one per joint value of enumerated sites.
    ``crossed``: what is known, or will be found, to cross the elements of a plate. ``track``: whether
    to find by provenance which cost depends on which sites.
    """

    recorder: OrdinaryRun | None = None
    source = layout.source()
    indices: dict[str, Any] = {}

    def run(path: dict[str, int]) -> Costs:
        nonlocal recorder
        axes = layout.axes()
        try:
            recorder = OrdinaryRun(resolve, layout.plate_dims, path, track, axes, source, indices)
            ordinary = ordinary_guide(guide, args, kwargs, recorder, state)
            if not objective.is_mean:  # particles whose weights are compared have the same data
                nodes = ordinary.trace.nodes.items()
                indices.update({name: x["value"] for name, x in nodes if site_is_subsample(x)})
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
            run_all = _at_once if program.vectorized else _one_by_one
            return run_all(program, follow, objective)
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
    for particle in range(layout.num_particles):
        pending: list[dict[str, int]] = [{}]
        while pending:
            path = pending.pop()
            source.begin(particle)
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


def _at_once(program: Program, track: bool, objective: Objective) -> Costs:
    _add_sites(program)
    passes = [run_pass(program, together(program), ordinary=True, track=track)]
    passes += _joint_passes(program)
    with torch.no_grad():
        passes += [run_pass(program, spans, ordinary=False) for spans in apart(program)]
    return Costs(program, passes, objective)


def _joint_passes(program: Program) -> list[Pass]:
    """As few passes as take all joint alternatives, those of independent sites together."""
    passes: list[Pass] = []
    waiting = jointly(program)
    while waiting:
        first, *others = waiting
        # Those of enumerated values are averages over them, each in its own way.
        joining = () if program.enumerated else others
        passes.append(run_pass(program, (first,), ordinary=False, joining=joining))
        waiting = [span for span in others if span not in passes[-1].joined]
    return passes


def _one_by_one(program: Program, track: bool, objective: Objective) -> Costs:
    terms = ordinary_terms(program, track)
    program = replace(program, batch_dims=max((term.log_prob.dim() for term in terms), default=0))
    _add_sites(program)
    if differentiates_ordinary(program):  # which only the estimators say: scored once more
        terms = ordinary_terms(program, track)
    passes: list[Pass] = [collect(program, (), True, terms, None)]
    for owner, number, branch in program.all_branches():
        for place in range(branch.count):
            with torch.set_grad_enabled(branch.needs_graph and torch.is_grad_enabled()):
                span = Span(owner, number, place, place + 1)
                passes.append(run_pass(program, (span,), ordinary=False))
    return Costs(program, passes, objective)


def _add_sites(program: Program) -> None:
    """The sites, with their alternatives: once the number of batch dims is known."""
    sites, dims = program.ordinary.sites, program.batch_dims
    if any([site.estimator.contributes(site.fn) for site in sites]):
        sites = [padded(site, dims) for site in sites]
        program.branches = _branches(sites)
    program.sites = sites
    program.enumerated = {site.name: site for site in sites if site.estimator.enumerated}


def _branches(sites: list[Site]) -> dict[int, tuple[Branch, ...]]:
    """By the number of a site: the alternatives that its estimator asks for."""
    found: dict[int, tuple[Branch, ...]] = {}
    if torch.is_grad_enabled():
        for number, site in enumerate(sites):
            if is_asked(site):
                with noise_of("site", site.name):
                    branches = checked(site, site.estimator.alternatives(site))
                if branches:
                    found[number] = branches
    return found
