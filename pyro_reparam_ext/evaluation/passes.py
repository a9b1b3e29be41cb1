"""Passes: guide and model run at alternative values of the sites.

All evaluations of a gradient are numbered: 0 is the ordinary run, then come the alternatives of each
site, in the order in which the guide samples the sites. A *pass* runs some of them at once, along one
dim left of all others. In an evaluation that belongs to site i, sites sampled before i keep their
ordinary value, site i takes its alternative, and sites sampled after i are drawn again under the
changed upstream values, with common random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.infer.util import is_validation_enabled
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match, check_site_shape
from torch import Tensor

from ..callers import told
from ..distributions.rules.relaxation import RELAXABLE, linear_log_prob
from ..distributions.rules.wrappers import innermost, log_prob_by
from ..errors import CannotVectorize, EstimatorError
from ..estimators.base import Estimator
from ..estimators.hinted import check_model_site
from ..estimators.protocol import Draw, Site
from ..noise import noise_of
from ..numerics.shapes import cat_rows
from .alternatives_pass import AlternativesPass, cat, one
from .control_flow import ControlFlow, provenance_of, untracked
from .held import Held, held_distributions, holding
from .ordinary import run_guide, scored
from .program import Program, Span
from .recorder import Recorder
from .terms import Term, is_computed, left_padded, log_prob_of


@dataclass(eq=False)
class Pass:
    """The cost terms of some evaluations: first the ordinary one if ``ordinary``, then ``spans``.

    ``probs`` has the probabilities of the values of enumerated sites, evaluations on the left;
    ``draws`` those of latent sites that are not the ordinary ones.
    """

    ordinary: bool
    spans: tuple[Span, ...]
    terms: list[Term]
    probs: dict[str, Tensor]
    draws: Mapping[str, Draw] = field(default_factory=dict)


def ordinary_terms(program: Program, track: bool) -> list[Term]:
    """The terms of guide and model at the ordinary values."""
    relaxed = differentiates_ordinary(program)
    run = _ordinary_run(program, relaxed)
    return run.terms + model_terms(program, run, relaxed, remember=True, track=track)


def run_pass(program: Program, spans: tuple[Span, ...], ordinary: bool, track: bool = False) -> Pass:
    """Runs guide and model at the alternatives of ``spans``, and at the ordinary values."""
    relaxed = any(program.branch(span).order for span in spans)
    relaxed = relaxed or (ordinary and differentiates_ordinary(program))
    between = any(program.branch(span).downstream.relaxes for span in spans)
    watch = ControlFlow() if between and not program.vectorized else None
    count = sum(map(len, spans))
    both = count + ordinary if spans else 0
    try:
        with program.axes.evaluations(count):
            run = _run_guide(program, spans, relaxed, watch)
        if ordinary and spans:
            run = _with_ordinary(program, run, differentiates_ordinary(program))
        with program.axes.evaluations(both):
            terms = run.terms + model_terms(program, run, relaxed, ordinary, track, watch)
    except Exception as error:
        if not (spans and program.vectorized) or isinstance(error, EstimatorError):
            raise
        names = ", ".join(repr(program.sites[span.owner].name) for span in spans)
        where = "under vmap" if program.axes.hides else f"on dim {-1 - program.batch_dims}"
        raise CannotVectorize(
            f"site {names}: model or guide failed when run at {count} alternative values at once, "
            f"{where}: {told(error)}"
        ) from error
    if watch is not None and watch.sites:
        owner = program.sites[spans[0].owner]
        raise EstimatorError(
            f"site '{owner.name}': its estimator evaluates relaxed values, between the support "
            f"points, which guide or model turn into Python numbers (.item(), a branch) at "
            f"{next(iter(watch.lines.values()))}; expected only tensor operations on them. "
            f"{owner.estimator.advice(owner.fn)} They only evaluate values of the support."
        )
    return collect(program, spans, ordinary, terms, run.draws)


def collect(
    program: Program,
    spans: tuple[Span, ...],
    ordinary: bool,
    terms: list[Term],
    draws: Mapping[str, Draw],
) -> Pass:
    """A pass from its terms, which get to know the number of batch dims."""
    probs = {}
    for term in terms:
        term.batch_dims = program.batch_dims
        if term.score is not None and term.name in program.enumerated:
            probs[term.name] = left_padded(term.score.exp(), program.batch_dims + 1)
    return Pass(ordinary, spans, terms, probs, draws)


def differentiates_ordinary(program: Program) -> bool:
    """Whether derivatives are taken in an ordinary value."""
    every, sites = program.all_branches(), program.sites
    return any(b.order and not b.count and _is_relaxable(sites[owner]) for owner, _, b in every)


def _ordinary_run(program: Program, relaxed: bool) -> GuideRun:
    """The ordinary run of the guide.

    ``relaxed``: values that derivatives are taken in are scored so that they have them.
    """
    ordinary, terms = program.ordinary, program.ordinary.terms
    if relaxed:
        terms = [
            replace(
                guide_term(site, ordinary.nodes[site.name], site.draw, relaxed), upstream=term.upstream
            )
            if site.value.requires_grad and _is_relaxable(site)
            else term
            for site, term in zip(ordinary.sites, terms, strict=True)
        ]
    return GuideRun(ordinary.trace, ordinary.sites, {}, terms)


def _run_guide(
    program: Program, spans: tuple[Span, ...], relaxed: bool, watch: ControlFlow | None
) -> GuideRun:
    """Values of the sites that differ from the ordinary ones, and all guide terms."""
    ordinary = program.ordinary
    if not spans:
        return _ordinary_run(program, relaxed)
    first = min(span.owner for span in spans)
    messenger = AlternativesPass(program, spans, watch)
    if program.vectorized and first == len(program.sites) - 1:  # nothing is sampled after the owner
        site = ordinary.sites[first]
        draw = messenger.assemble(first, site.fn)
        node = ordinary.nodes[site.name]
        term = guide_term(site, node, draw, relaxed, ordinary.held.get(site.name))
        terms = [*ordinary.terms[:first], term]
        return GuideRun(ordinary.trace, ordinary.sites, {site.name: draw}, terms)
    trace = run_guide(program.guide, program.args, program.kwargs, messenger)
    sites = [messenger.sites[name] for name in trace.nodes if name in messenger.draws]
    held = held_distributions(
        [site.name for site in sites if site.estimator.holds_guide_parameters and not site.observed],
        partial(run_guide, program.guide, program.args, program.kwargs),
        messenger,
        trace,
    )
    nodes, draws = messenger.nodes, messenger.draws
    terms = [guide_term(s, nodes[s.name], draws[s.name], relaxed, held.get(s.name)) for s in sites]
    return GuideRun(trace, sites, messenger.changed, terms)


def _with_ordinary(program: Program, run: GuideRun, relaxed: bool) -> GuideRun:
    """The ordinary evaluation put in front, where evaluations differ."""
    first = {site.name: site for site in program.sites}
    draws = {name: cat([one(first[name].draw), draw]) for name, draw in run.draws.items()}
    ordinary = {term.name: term for term in _ordinary_run(program, relaxed).terms}
    terms = []
    for term in run.terms:
        before = ordinary[term.name]
        if term.log_prob.dim() > program.batch_dims:
            assert before.score is not None and term.score is not None
            score = term.score
            if term.name in program.ordinary.support_sizes:
                score = _stack(before.score, score, program.batch_dims)
            log_prob = _stack(before.log_prob, term.log_prob, program.batch_dims)
            before = replace(term, log_prob=log_prob, score=score, upstream=before.upstream)
        terms.append(before)
    return replace(run, draws=draws, terms=terms)


def model_terms(
    program: Program,
    run: GuideRun,
    relaxed: bool,
    remember: bool,
    track: bool,
    watch: ControlFlow | None = None,
) -> list[Term]:
    """The terms of the model, replayed against the values of a guide run."""
    recorder = _replay(program, run, track, watch)
    sites = {site.name: site for site in run.sites if not site.observed}
    terms, nodes = [], []
    for name, traced in recorder.trace.nodes.items():
        if traced["type"] != "sample":
            if traced["type"] == "param":
                program.model_parameters[name] = traced["value"]
            continue
        node = recorder.nodes.get(name)
        if remember and not traced["is_observed"] and name not in program.ordinary.trace:
            check_model_site(traced)
            if not (node and _differs(program, node)):
                program.model_values[name], program.model_nodes[name] = traced, node or traced
        if site_is_subsample(traced):
            continue
        node = node or traced
        fn, value = node["fn"], node["value"]
        if remember and traced["is_observed"] and is_computed(traced):
            program.computed[name] = node
        if name in sites and not node["is_observed"]:
            site = sites[name]
            draw = run.draws.get(name, site.draw)
            draw = draw if draw.value is value else Draw(value, draw.coordinate)
            _check_scorable(site, fn)
            if relaxed and _is_relaxable(site) and isinstance(innermost(fn), RELAXABLE):
                log_prob = _linear(fn, draw)
            else:
                log_prob = log_prob_of(name, site.estimator.log_prob, fn, draw)
        else:
            log_prob = log_prob_of(name, fn.log_prob, value)
        upstream = None
        if track:  # what a distribution keeps in closures is left
            upstream = provenance_of(log_prob) | program.ordinary.control.sites
            upstream |= recorder.upstream.get(name, frozenset())
        terms.append(Term.of_model(node, untracked(log_prob), upstream))
        nodes.append(node)
    if remember and program.branches:
        program.footprint = sum(program.size_of(node["fn"]) for node in nodes)
    if remember and is_validation_enabled():
        check_model_guide_match(recorder.trace, program.ordinary.trace, program.max_plate_nesting)
        for node, term in zip(nodes, terms, strict=True):
            check_site_shape({**node, "log_prob": term.log_prob}, program.max_plate_nesting)
    return terms


def _differs(program: Program, node: dict[str, Any]) -> bool:
    """Whether the value of a site of the model differs between evaluations."""
    return node["value"].dim() - len(node["fn"].event_shape) > program.batch_dims


def _replay(program: Program, run: GuideRun, track: bool, watch: ControlFlow | None) -> Recorder:
    """Runs the model with the values of a guide run and what it drew by itself before."""
    tracked = watch is not None or bool(program.ordinary.tracked)
    recorder = ModelRun(program.axes, watch or program.ordinary.control, tracked)
    replayed = run.trace
    if run.draws or program.model_values or program.ordinary.tracked:
        with program.axes.running():
            replayed = _replayed(program, run, track, watch)
    with recorder, ReplayMessenger(trace=replayed), program.axes.running():
        program.model(*program.args, **program.kwargs)
    return recorder


def _replayed(program: Program, run: GuideRun, track: bool, watch: ControlFlow | None) -> Trace:
    """The trace that the model is replayed against, where it is not the guide's own."""
    control = program.ordinary.control
    replayed = run.trace.copy()
    for name, node in program.model_values.items():
        replayed.add_node(name, **node.copy())
    for site in run.sites:
        if not site.observed:
            node = replayed.nodes[site.name]
            value = untracked(node["value"])
            if site.name in run.draws:
                value = program.axes.hidden(run.draws[site.name].value, node["fn"])
            if track:
                drawn = program.ordinary.trace.nodes[site.name]["value"]
                value = control.track(value, provenance_of(drawn))
            if watch is not None and site.name in run.draws:
                value = watch.track(value, frozenset([site.name]))
            replayed.nodes[site.name] = {**node, "value": value}
    return replayed


class ModelRun(Recorder):
    """The model at the values of a guide run; a latent site of its own is drawn from its prior."""

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        if not message["done"] and not message["is_observed"]:
            self.control.noisy = True
            if self.axes.hides:
                with noise_of("site", message["name"]):
                    value = fn()
                self.give(message, value)
        return frozenset()


@dataclass(eq=False)
class GuideRun:
    """The guide in one pass: its trace and sites, the draws that differ, and its terms."""

    trace: Trace
    sites: list[Site]
    draws: dict[str, Draw]
    terms: list[Term]


def guide_term(
    site: Site,
    node: dict[str, Any],
    draw: Draw,
    relaxed: bool,
    held: Held | None = None,
) -> Term:
    """The term of a guide site at another draw.

    ``relaxed``: whether derivatives are taken in values of discrete sites. ``held``: what scores it in
    place of its own distribution.
    """
    if relaxed and _is_relaxable(site):
        log_prob = score = untracked(_linear(node["fn"], draw))
    else:
        # Only the value of a hard site's log density enters, unless it weighs an expectation.
        graph = site.estimator.differentiable or site.estimator.enumerated
        with torch.set_grad_enabled(graph and torch.is_grad_enabled()), holding(held):
            log_prob, score = scored(site.name, site.estimator, held.fn if held else node["fn"], draw)
    return Term.of_guide(node, log_prob, score)


def _is_relaxable(site: Site) -> bool:
    """Whether a site that is sampled hard may get relaxed values in some evaluations."""
    return not site.estimator.differentiable and isinstance(innermost(site.fn), RELAXABLE)


def _linear(fn: TorchDistribution, draw: Draw) -> Tensor:
    return log_prob_by(lambda base: linear_log_prob(base, draw.value), fn)


def _check_scorable(site: Site, fn: TorchDistribution) -> None:
    """A relaxed value needs the same kind of distribution in the model."""
    estimator = site.estimator
    overridden = type(estimator).log_prob is not Estimator.log_prob
    if overridden and not isinstance(innermost(fn), estimator.supported):
        raise EstimatorError(
            f"site '{site.name}': {type(estimator).__name__} gives it relaxed values, which the model "
            f"can't score by {type(innermost(fn)).__name__}; expected "
            f"{type(innermost(site.fn)).__name__} in the model, as in the guide."
        )


def _stack(first: Tensor, rest: Tensor, batch_dims: int) -> Tensor:
    first = left_padded(first, batch_dims)  # shape: (*batch)
    return cat_rows([first[None], rest])  # shape: (1 + evaluations, *batch)
