"""The model at the values of a guide run, and the terms of its sites."""

from __future__ import annotations

from typing import Any

from pyro.distributions import TorchDistribution
from pyro.infer.util import is_validation_enabled
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match, check_site_shape

from ..distributions.rules.relaxation import RELAXABLE
from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..estimators.hinted import check_model_site
from ..estimators.protocol import Draw, Site
from ..noise import noise_of
from .analytic import check_divergence, check_in_model, divergence
from .axes import Visible
from .control_flow import ControlFlow, provenance_of, untracked
from .guide_run import GuideRun, is_relaxable, linear
from .program import Program
from .recorder import Recorder
from .terms import Term, is_computed, log_prob_of


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
            if site.estimator.analytic:
                if track:
                    check_divergence(program, site, node, recorder.parents.get(name, ()))
                log_prob = -divergence(program, run, site, fn)
            elif relaxed and is_relaxable(site) and isinstance(innermost(fn), RELAXABLE):
                log_prob = linear(fn, draw)
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
    check_in_model(sites.values(), recorder.trace.nodes)
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


def _replay(program: Program, run: GuideRun, track: bool, watch: ControlFlow | None) -> ModelRun:
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
    """The model at the values of a guide run; a latent site of its own is drawn from its prior.

    ``parents`` has the provenance of the distributions of its sites, where that is tracked.
    """

    def __init__(self, axes: Visible, control: ControlFlow, tracking: bool) -> None:
        super().__init__(axes, control, tracking)
        self.parents: dict[str, frozenset[str]] = {}

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        if self.tracking:
            self.parents[message["name"]] = self.upstream[message["name"]]
        if not message["done"] and not message["is_observed"]:
            self.control.noisy = True
            if self.axes.hides:
                with noise_of("site", message["name"]):
                    value = fn()
                self.give(message, value)
        return frozenset()


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
