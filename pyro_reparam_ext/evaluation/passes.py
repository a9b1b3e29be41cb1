"""Passes: guide and model run at alternative values of the sites.

All evaluations of a gradient are numbered: 0 is the ordinary run, then come the alternatives of each
site, in the order in which the guide samples the sites. A *pass* runs some of them at once, along one
dim left of all others. In an evaluation that belongs to site i, sites sampled before i keep their
ordinary value, site i takes its alternative, and sites sampled after i are drawn again under the
changed upstream values, with common random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch import Tensor

from ..callers import told
from ..errors import CannotVectorize, EstimatorError
from ..estimators.protocol import Draw
from ..numerics.shapes import cat_rows
from .alternatives_pass import AlternativesPass, cat, one
from .control_flow import ControlFlow
from .guide_run import GuideRun, guide_term, is_relaxable
from .held import held_distributions
from .model_run import model_terms
from .ordinary import run_guide
from .program import Program, Span
from .terms import Term, left_padded


@dataclass(eq=False)
class Pass:
    """The cost terms of some evaluations: first the ordinary one if ``ordinary``, then ``spans``.

    ``probs`` has the probabilities of the values of enumerated sites, evaluations on the left;
    ``draws`` those of latent sites that are not the ordinary ones; ``joined`` the alternatives of other
    sites that are taken in the evaluation of its only span, too.
    """

    ordinary: bool
    spans: tuple[Span, ...]
    terms: list[Term]
    probs: dict[str, Tensor]
    draws: Mapping[str, Draw] = field(default_factory=dict)
    joined: Sequence[Span] = ()


def ordinary_terms(program: Program, track: bool) -> list[Term]:
    """The terms of guide and model at the ordinary values."""
    relaxed = differentiates_ordinary(program)
    run = _ordinary_run(program, relaxed)
    return run.terms + model_terms(program, run, relaxed, remember=True, track=track)


def run_pass(
    program: Program,
    spans: tuple[Span, ...],
    ordinary: bool,
    track: bool = False,
    joining: Sequence[Span] = (),
) -> Pass:
    """Runs guide and model at the alternatives of ``spans``, and at the ordinary values.

    ``joining``: joint alternatives that may be taken along, where there is a single joint span.
    """
    relaxed = any(program.branch(span).order for span in spans)
    relaxed = relaxed or (ordinary and differentiates_ordinary(program))
    between = any(program.branch(span).downstream.relaxes for span in spans)
    watch = ControlFlow() if between and not program.vectorized else None
    count = sum(map(len, spans))
    both = count + ordinary if spans else 0
    try:
        with program.axes.evaluations(count):
            run = _run_guide(program, spans, relaxed, watch, joining)
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
    return collect(program, spans, ordinary, terms, run)


def collect(
    program: Program,
    spans: tuple[Span, ...],
    ordinary: bool,
    terms: list[Term],
    run: GuideRun | None,
) -> Pass:
    """A pass from its terms, which get to know the number of batch dims."""
    probs = {}
    for term in terms:
        term.batch_dims = program.batch_dims
        if term.score is not None and term.name in program.enumerated:
            probs[term.name] = left_padded(term.score.exp(), program.batch_dims + 1)
    changed = ({}, ()) if run is None else (run.draws, run.joined)
    return Pass(ordinary, spans, terms, probs, *changed)


def differentiates_ordinary(program: Program) -> bool:
    """Whether derivatives are taken in an ordinary value."""
    every, sites = program.all_branches(), program.sites
    return any(b.order and not b.count and is_relaxable(sites[owner]) for owner, _, b in every)


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
            if site.value.requires_grad and is_relaxable(site)
            else term
            for site, term in zip(ordinary.sites, terms, strict=True)
        ]
    return GuideRun(ordinary.trace, ordinary.sites, {}, terms)


def _run_guide(
    program: Program,
    spans: tuple[Span, ...],
    relaxed: bool,
    watch: ControlFlow | None,
    joining: Sequence[Span],
) -> GuideRun:
    """Values of the sites that differ from the ordinary ones, and all guide terms."""
    ordinary = program.ordinary
    if not spans:
        return _ordinary_run(program, relaxed)
    first = min(span.owner for span in spans)
    messenger = AlternativesPass(program, spans, watch, joining)
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
    laws = {site.name: nodes[site.name]["fn"] for site in sites}
    return GuideRun(trace, sites, messenger.changed, terms, messenger.joined, laws)


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
    return replace(run, draws=draws, terms=terms, has_ordinary=True)


def _stack(first: Tensor, rest: Tensor, batch_dims: int) -> Tensor:
    first = left_padded(first, batch_dims)  # shape: (*batch)
    return cat_rows([first[None], rest])  # shape: (1 + evaluations, *batch)
