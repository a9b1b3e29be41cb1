"""Passes: guide and model run at alternative values of the sites.

All evaluations of a gradient are numbered: 0 is the ordinary run, then come the alternatives of each
site, in the order in which the guide samples the sites. A *pass* runs some of them at once, along one
dim left of all others. In an evaluation that belongs to site i, sites sampled before i keep their
ordinary value, site i takes its alternative, and sites sampled after i are drawn again under the
changed upstream values, with common random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer.util import is_validation_enabled
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match, check_site_shape
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.base import Alternatives, Draw, Estimator, Site
from ..estimators.enumeration import Enumeration
from ..estimators.relaxation import RELAXABLE, linear_log_prob
from .control_flow import ControlFlow
from .ordinary import OrdinaryGuide, Resolve, run_guide, scored, without_provenance
from .slices import Group, SlicePass, cat, one
from .terms import Term, left_padded, log_prob_of
from .unwrap import cat_rows, innermost, log_prob_by

Dependencies: TypeAlias = Mapping[tuple[str, str], frozenset[str]]
"""Which sites the term ``(side, name)`` depends on."""


def broadcast_error(error: Exception, what: str) -> EstimatorError | None:
    """What to raise where ``what`` failed by ``error``; None if the error says enough by itself."""
    if isinstance(error, EstimatorError) or "max_plate_nesting" in str(error):
        return None
    return EstimatorError(
        f"{what}: {error}\nLet the program broadcast over dims on the left (no reshape to a fixed "
        f"number of dims, no Python branch on a value), or pass vectorize_particles=False to run one "
        f"evaluation at a time."
    )


@dataclass(frozen=True, eq=False)
class Pass:
    """The cost terms of some evaluations: first the ordinary one if ``ordinary``, then ``groups``.

    ``probs`` has the probabilities of the values of enumerated sites, evaluations on the left.
    """

    ordinary: bool
    groups: tuple[Group, ...]
    terms: list[Term]
    probs: dict[str, Tensor]

    def span(self, group: Group) -> tuple[int, int]:
        """Where a group lies on the evaluation dim."""
        start = int(self.ordinary)
        for other in self.groups:
            if other is group:
                return start, start + len(group)
            start += len(other)
        raise KeyError(group)


@dataclass(frozen=True, eq=False)
class Program:
    """A model and a guide with their arguments, after the ordinary run of the guide.

    ``batch_dims`` counts the dims of plates, particles and enumerated sites; evaluations lie left of
    them. ``vectorized`` is False where every evaluation is run by itself.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple
    kwargs: dict
    resolve: Resolve
    vectorized: bool
    ordinary: OrdinaryGuide
    batch_dims: int
    max_plate_nesting: float = float("inf")
    dependencies: Dependencies | None = None
    sites: list[Site] = field(default_factory=list)
    alternatives: dict[int, Alternatives] = field(default_factory=dict)
    model_values: dict[str, dict[str, Any]] = field(default_factory=dict)
    model_parameters: dict[str, Tensor] = field(default_factory=dict)

    def run_ordinary(self, track: bool) -> list[Term]:
        """The model's terms at the ordinary values."""
        run = _GuideRun(self.ordinary.trace, self.ordinary.sites, {}, self.ordinary.terms)
        return self._model_terms(run, relaxed=False, remember=True, track=track)

    def run(self, groups: tuple[Group, ...], ordinary: bool, track: bool = False) -> Pass:
        """Runs guide and model at the alternatives of ``groups``, and at the ordinary values."""
        relaxed = any(self.alternatives[group.owner].relaxed for group in groups)
        watch = ControlFlow() if relaxed and not self.vectorized else None
        try:
            run = self._run_guide(groups, relaxed, watch)
            if ordinary and groups:
                run = self._with_ordinary(run)
            model_terms = self._model_terms(run, relaxed, remember=ordinary, track=track, watch=watch)
        except (RuntimeError, IndexError, ValueError) as error:
            names = ", ".join(repr(self.sites[group.owner].name) for group in groups)
            what = (
                f"sites {names}: model or guide failed when run at {sum(map(len, groups))} "
                f"alternative values at once, on dim {-1 - self.batch_dims} (left of all plates and "
                f"particles)"
            )
            explained = broadcast_error(error, what) if groups and self.vectorized else None
            if explained is None:
                raise
            raise explained from error
        if watch is not None and watch.sites:
            owner = self.sites[groups[0].owner]
            raise EstimatorError(
                f"site '{owner.name}': its estimator evaluates relaxed values, between the support "
                f"points, which guide or model turn into Python numbers (.item(), a branch); expected "
                f"only tensor operations on them. {owner.estimator.advice(owner.fn)} They only "
                f"evaluate values of the support."
            )
        return self.collect(groups, ordinary, run.terms + model_terms)

    def parameters(self) -> dict[str, Tensor]:
        """The unconstrained parameters of guide and model."""
        nodes = self.ordinary.trace.nodes.items()
        guide = {name: node["value"] for name, node in nodes if node["type"] == "param"}
        return {
            name: value.unconstrained() for name, value in {**guide, **self.model_parameters}.items()
        }

    @property
    def num_latent(self) -> int:
        return sum(not site.observed for site in self.ordinary.sites)

    def collect(self, groups: tuple[Group, ...], ordinary: bool, terms: list[Term]) -> Pass:
        """A pass from its terms, which get to know the number of batch dims."""
        enumerated = {s.name for s in self.sites if isinstance(s.estimator, Enumeration)}
        probs = {
            term.name: left_padded(term.score.exp(), self.batch_dims + 1)
            for term in terms
            if term.name in enumerated and term.score is not None
        }
        for term in terms:
            term.batch_dims = self.batch_dims
            if self.dependencies is not None:
                term.upstream = self.dependencies.get(term.key)
        return Pass(ordinary, groups, terms, probs)

    # -- guide ------------------------------------------------------------------------------------

    def _run_guide(
        self, groups: tuple[Group, ...], relaxed: bool, watch: ControlFlow | None
    ) -> _GuideRun:
        """Values of the sites that differ from the ordinary ones, and all guide terms."""
        ordinary = self.ordinary
        if not groups:
            return _GuideRun(ordinary.trace, ordinary.sites, {}, ordinary.terms)
        first = min(group.owner for group in groups)
        messenger = SlicePass(self, groups, watch)
        if self.vectorized and first == len(self.sites) - 1:  # nothing is sampled after the owner
            site = ordinary.sites[first]
            draw = messenger.assemble(first, site.fn)
            node = ordinary.trace.nodes[site.name]
            terms = [*ordinary.terms[:first], _guide_term(site, node, draw, relaxed)]
            return _GuideRun(ordinary.trace, ordinary.sites, {site.name: draw}, terms)
        trace = run_guide(self.guide, self.args, self.kwargs, messenger)
        sites, terms = [], []
        for name, node in trace.nodes.items():
            if node["type"] == "sample" and not site_is_subsample(node):
                site, draw = messenger.sites[name], messenger.draws[name]
                fn = without_provenance(node["fn"])[0] if watch else node["fn"]
                sites.append(site)
                terms.append(_guide_term(site, {**node, "fn": fn}, draw, relaxed))
        return _GuideRun(trace, sites, messenger.changed, terms)

    def _with_ordinary(self, run: _GuideRun) -> _GuideRun:
        """The ordinary evaluation put in front, where evaluations differ."""
        first = {site.name: site for site in self.sites}
        draws = {name: cat([one(first[name].draw), draw]) for name, draw in run.draws.items()}
        ordinary = {term.name: term for term in self.ordinary.terms}
        terms = []
        for term in run.terms:
            before = ordinary[term.name]
            if term.log_prob.dim() > self.batch_dims:
                assert before.score is not None and term.score is not None
                score = term.score
                if term.name in self.ordinary.support_sizes:
                    score = _stack(before.score, score, self.batch_dims)
                log_prob = _stack(before.log_prob, term.log_prob, self.batch_dims)
                before = replace(term, log_prob=log_prob, score=score, upstream=before.upstream)
            terms.append(before)
        return replace(run, draws=draws, terms=terms)

    # -- model ------------------------------------------------------------------------------------

    def _model_terms(
        self,
        run: _GuideRun,
        relaxed: bool,
        remember: bool,
        track: bool,
        watch: ControlFlow | None = None,
    ) -> list[Term]:
        """The terms of the model, replayed against the values of a guide run."""
        trace = self._replay(run, track, watch)
        sites = {site.name: site for site in run.sites if not site.observed}
        terms, scored_nodes = [], []
        for name, node in trace.nodes.items():
            if node["type"] == "param":
                self.model_parameters[name] = node["value"]
            if node["type"] != "sample":
                continue
            if remember and not node["is_observed"] and name not in self.ordinary.trace:
                self.model_values[name] = node
            if site_is_subsample(node):
                continue
            fn, value = node["fn"], node["value"]
            if name in sites and not node["is_observed"]:
                site = sites[name]
                draw = Draw(value, run.draws.get(name, site.draw).coordinate)
                _check_scorable(site, fn)
                if relaxed and _is_relaxable(site) and isinstance(innermost(fn), RELAXABLE):
                    log_prob = _linear(fn, draw)
                else:
                    log_prob = log_prob_of(name, partial(site.estimator.log_prob, fn, draw))
            else:
                log_prob = log_prob_of(name, partial(fn.log_prob, value))
            upstream = get_provenance(log_prob) | self.ordinary.control.sites if track else None
            terms.append(Term.of_model(node, detach_provenance(log_prob), upstream))
            scored_nodes.append(node)
        if remember and is_validation_enabled():
            check_model_guide_match(trace, self.ordinary.trace, self.max_plate_nesting)
            for node, term in zip(scored_nodes, terms, strict=True):
                check_site_shape({**node, "log_prob": term.log_prob}, self.max_plate_nesting)
        return terms

    def _replay(self, run: _GuideRun, track: bool, watch: ControlFlow | None) -> Trace:
        """Runs the model with the values of a guide run and what it drew by itself before."""
        replayed = run.trace
        if run.draws or self.model_values or self.ordinary.tracked:
            replayed = self._replayed(run, track, watch)
        with poutine.trace() as tracer, poutine.replay(trace=replayed):
            self.model(*self.args, **self.kwargs)
        return tracer.trace

    def _replayed(self, run: _GuideRun, track: bool, watch: ControlFlow | None) -> Trace:
        """The trace that the model is replayed against, where it is not the guide's own."""
        control = self.ordinary.control
        replayed = run.trace.copy()
        for name, node in self.model_values.items():
            replayed.add_node(name, **node.copy())
        for site in run.sites:
            if not site.observed:
                value = run.draws[site.name].value if site.name in run.draws else site.value
                if track:
                    drawn = self.ordinary.trace.nodes[site.name]["value"]
                    value = control.track(value, get_provenance(drawn))
                if watch is not None and site.name in run.draws:
                    value = watch.track(value, frozenset([site.name]))
                replayed.nodes[site.name] = {**replayed.nodes[site.name], "value": value}
        return replayed


@dataclass(frozen=True, eq=False)
class _GuideRun:
    """The guide in one pass: its trace and sites, the draws that differ, and its terms."""

    trace: Trace
    sites: list[Site]
    draws: dict[str, Draw]
    terms: list[Term]


def _guide_term(site: Site, node: dict[str, Any], draw: Draw, relaxed: bool) -> Term:
    if relaxed and _is_relaxable(site):
        log_prob = score = _linear(node["fn"], draw)
    else:
        # Only the value of a hard site's log density enters, unless it weighs an expectation.
        graph = site.estimator.differentiable or isinstance(site.estimator, Enumeration)
        with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
            log_prob, score = scored(site.name, site.estimator, node["fn"], draw)
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
    first = left_padded(first, batch_dims)
    return cat_rows([first[None], rest])
