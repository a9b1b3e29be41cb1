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
from typing import Any, TypeAlias

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
from ..estimators.base import Alternatives, Draw, Estimator, Site
from ..estimators.enumeration import Enumeration
from ..estimators.hinted import check_model_site
from ..numerics.shapes import cat_rows
from .axes import Visible
from .control_flow import ControlFlow, provenance_of, untracked
from .ordinary import OrdinaryGuide, Resolve, run_guide, scored
from .recorder import Recorder
from .slices import Group, SlicePass, cat, one
from .terms import Crossing, Term, left_padded, log_prob_of

Dependencies: TypeAlias = Mapping[tuple[str, str], frozenset[str]]
"""Which sites the term ``(side, name)`` depends on."""


@dataclass(eq=False)
class Pass:
    """The cost terms of some evaluations: first the ordinary one if ``ordinary``, then ``groups``.

    ``probs`` has the probabilities of the values of enumerated sites, evaluations on the left;
    ``draws`` those of latent sites that are not the ordinary ones.
    """

    ordinary: bool
    groups: tuple[Group, ...]
    terms: list[Term]
    probs: dict[str, Tensor]
    draws: Mapping[str, Draw] = field(default_factory=dict)


@dataclass(eq=False)
class Program:
    """A model and a guide with their arguments, after the ordinary run of the guide.

    ``batch_dims`` counts the dims of plates, particles and enumerated sites; evaluations lie left of
    them. ``vectorized`` is False where every evaluation is run by itself. ``model_values`` has what the
    model alone drew in the ordinary run, as it saw it; ``model_nodes`` the same with all dims.
    ``enumerated``: the sites that are, by name. ``crossed``: in which plates a term depends on other
    elements of a site than its own.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple
    kwargs: dict
    resolve: Resolve
    vectorized: bool
    axes: Visible
    ordinary: OrdinaryGuide
    batch_dims: int
    num_particles: int = 1
    max_plate_nesting: float = float("inf")
    sites: list[Site] = field(default_factory=list)
    enumerated: dict[str, Site] = field(default_factory=dict)
    alternatives: dict[int, Alternatives] = field(default_factory=dict)
    model_values: dict[str, dict[str, Any]] = field(default_factory=dict)
    model_nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    model_parameters: dict[str, Tensor] = field(default_factory=dict)
    crossed: set[Crossing] = field(default_factory=set)

    def run_ordinary(self, track: bool) -> list[Term]:
        """The model's terms at the ordinary values."""
        run = GuideRun(self.ordinary.trace, self.ordinary.sites, {}, self.ordinary.terms)
        return self.model_terms(run, relaxed=False, remember=True, track=track)

    def run(self, groups: tuple[Group, ...], ordinary: bool, track: bool = False) -> Pass:
        """Runs guide and model at the alternatives of ``groups``, and at the ordinary values."""
        relaxed = any(self.alternatives[group.owner].relaxed for group in groups)
        watch = ControlFlow() if relaxed and not self.vectorized else None
        count = sum(map(len, groups))
        both = count + ordinary if groups else 0
        try:
            with self.axes.evaluations(count):
                run = self._run_guide(groups, relaxed, watch)
            if ordinary and groups:
                run = self._with_ordinary(run)
            with self.axes.evaluations(both):
                model_terms = self.model_terms(
                    run, relaxed, remember=ordinary, track=track, watch=watch
                )
        except Exception as error:
            if not (groups and self.vectorized) or isinstance(error, EstimatorError):
                raise
            names = ", ".join(repr(self.sites[group.owner].name) for group in groups)
            where = "under vmap" if self.axes.hides else f"on dim {-1 - self.batch_dims}"
            raise CannotVectorize(
                f"site {names}: model or guide failed when run at {count} alternative values at once, "
                f"{where}: {told(error)}"
            ) from error
        if watch is not None and watch.sites:
            owner = self.sites[groups[0].owner]
            raise EstimatorError(
                f"site '{owner.name}': its estimator evaluates relaxed values, between the support "
                f"points, which guide or model turn into Python numbers (.item(), a branch) at "
                f"{next(iter(watch.lines.values()))}; expected only tensor operations on them. "
                f"{owner.estimator.advice(owner.fn)} They only evaluate values of the support."
            )
        return self.collect(groups, ordinary, run.terms + model_terms, run.draws)

    def parameters(self) -> dict[str, Tensor]:
        """The unconstrained parameters of guide and model."""
        nodes = self.ordinary.trace.nodes.items()
        guide = {name: node["value"] for name, node in nodes if node["type"] == "param"}
        return {
            name: value.unconstrained() for name, value in {**guide, **self.model_parameters}.items()
        }

    @property
    def particles(self) -> tuple[int, ...]:
        """The size of the dim of particles, if there is one."""
        return (self.num_particles,) if self.vectorized and self.num_particles > 1 else ()

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The sizes of the dims between evaluations and plates: enumerated sites, then particles."""
        sizes = self.ordinary.support_sizes.values() if self.vectorized else ()
        return (*reversed(tuple(sizes)), *self.particles)

    @property
    def plate_dims(self) -> int:
        """The number of dims that plates take, without particles and enumerated sites."""
        return self.batch_dims - len(self.inner_shape)

    @property
    def particle_dim(self) -> int | None:
        """The dim of vectorised particles, left of those of the plates."""
        return -1 - self.plate_dims if self.particles else None

    @property
    def num_latent(self) -> int:
        return sum(not site.observed for site in self.ordinary.sites)

    def collect(
        self,
        groups: tuple[Group, ...],
        ordinary: bool,
        terms: list[Term],
        draws: Mapping[str, Draw],
    ) -> Pass:
        """A pass from its terms, which get to know the number of batch dims."""
        probs = {}
        for term in terms:
            term.batch_dims = self.batch_dims
            if term.score is not None and term.name in self.enumerated:
                probs[term.name] = left_padded(term.score.exp(), self.batch_dims + 1)
        return Pass(ordinary, groups, terms, probs, draws)

    # -- guide ------------------------------------------------------------------------------------

    def _run_guide(
        self, groups: tuple[Group, ...], relaxed: bool, watch: ControlFlow | None
    ) -> GuideRun:
        """Values of the sites that differ from the ordinary ones, and all guide terms."""
        ordinary = self.ordinary
        if not groups:
            return GuideRun(ordinary.trace, ordinary.sites, {}, ordinary.terms)
        first = min(group.owner for group in groups)
        messenger = SlicePass(self, groups, watch)
        if self.vectorized and first == len(self.sites) - 1:  # nothing is sampled after the owner
            site = ordinary.sites[first]
            draw = messenger.assemble(first, site.fn)
            node = ordinary.nodes[site.name]
            terms = [*ordinary.terms[:first], guide_term(site, node, draw, relaxed)]
            return GuideRun(ordinary.trace, ordinary.sites, {site.name: draw}, terms)
        trace = run_guide(self.guide, self.args, self.kwargs, messenger)
        sites, terms = [], []
        for name in trace.nodes:
            if name in messenger.draws:
                site, draw = messenger.sites[name], messenger.draws[name]
                sites.append(site)
                terms.append(guide_term(site, messenger.nodes[name], draw, relaxed))
        return GuideRun(trace, sites, messenger.changed, terms)

    def _with_ordinary(self, run: GuideRun) -> GuideRun:
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

    def model_terms(
        self,
        run: GuideRun,
        relaxed: bool,
        remember: bool,
        track: bool,
        watch: ControlFlow | None = None,
    ) -> list[Term]:
        """The terms of the model, replayed against the values of a guide run."""
        recorder = self._replay(run, track, watch)
        sites = {site.name: site for site in run.sites if not site.observed}
        terms, nodes = [], []
        for name, traced in recorder.trace.nodes.items():
            if traced["type"] != "sample":
                if traced["type"] == "param":
                    self.model_parameters[name] = traced["value"]
                continue
            node = recorder.nodes.get(name)
            if remember and not traced["is_observed"] and name not in self.ordinary.trace:
                check_model_site(traced)
                if not (node and self._differs(node)):
                    self.model_values[name], self.model_nodes[name] = traced, node or traced
            if site_is_subsample(traced):
                continue
            node = node or traced
            fn, value = node["fn"], node["value"]
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
                upstream = provenance_of(log_prob) | self.ordinary.control.sites
                upstream |= recorder.upstream.get(name, frozenset())
            terms.append(Term.of_model(node, untracked(log_prob), upstream))
            nodes.append(node)
        if remember and is_validation_enabled():
            check_model_guide_match(recorder.trace, self.ordinary.trace, self.max_plate_nesting)
            for node, term in zip(nodes, terms, strict=True):
                check_site_shape({**node, "log_prob": term.log_prob}, self.max_plate_nesting)
        return terms

    def _differs(self, node: dict[str, Any]) -> bool:
        """Whether the value of a site of the model differs between evaluations."""
        return node["value"].dim() - len(node["fn"].event_shape) > self.batch_dims

    def _replay(self, run: GuideRun, track: bool, watch: ControlFlow | None) -> Recorder:
        """Runs the model with the values of a guide run and what it drew by itself before."""
        tracked = watch is not None or bool(self.ordinary.tracked)
        recorder = ModelRun(self.axes, watch or self.ordinary.control, tracked)
        replayed = run.trace
        if run.draws or self.model_values or self.ordinary.tracked:
            with self.axes.running():
                replayed = self._replayed(run, track, watch)
        with recorder, ReplayMessenger(trace=replayed), self.axes.running():
            self.model(*self.args, **self.kwargs)
        return recorder

    def _replayed(self, run: GuideRun, track: bool, watch: ControlFlow | None) -> Trace:
        """The trace that the model is replayed against, where it is not the guide's own."""
        control = self.ordinary.control
        replayed = run.trace.copy()
        for name, node in self.model_values.items():
            replayed.add_node(name, **node.copy())
        for site in run.sites:
            if not site.observed:
                node = replayed.nodes[site.name]
                value = untracked(node["value"])
                if site.name in run.draws:
                    value = self.axes.hidden(run.draws[site.name].value, node["fn"])
                if track:
                    drawn = self.ordinary.trace.nodes[site.name]["value"]
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
                self.give(message, fn())
        return frozenset()


@dataclass(eq=False)
class GuideRun:
    """The guide in one pass: its trace and sites, the draws that differ, and its terms."""

    trace: Trace
    sites: list[Site]
    draws: dict[str, Draw]
    terms: list[Term]


def guide_term(site: Site, node: dict[str, Any], draw: Draw, relaxed: bool) -> Term:
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
