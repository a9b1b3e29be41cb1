"""A program run plainly at given values: what a run at many values at once has to agree with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.distributions import TorchDistribution

from ..errors import CannotVectorize
from ..estimators.protocol import Draw, Site
from .axes import Visible, fitted
from .control_flow import ControlFlow
from .guide_run import GuideRun, guide_term
from .model_run import model_terms
from .ordinary import OrdinaryGuide, run_guide
from .program import Program
from .rerun import Rerun
from .terms import Key, Term, vectorized_plates


@dataclass(frozen=True, eq=False)
class PlainRun:
    """The terms of guide and model at one value of each site, with the sites that each depends on.

    ``sites``: the latent ones of the guide, in their own shapes. ``unscored``: terms that could not be
    had at values given from outside. ``control`` knows which of them the
    program read as numbers, and where.
    """

    terms: dict[Key, Term]
    sites: dict[str, Site]
    unscored: set[Key]
    control: ControlFlow


@torch.no_grad()
def plain_run(
    program: Program,
    draws: Mapping[str, Draw],
    model_values: Mapping[str, dict[str, Any]],
    relaxed: bool = False,
) -> PlainRun:
    """Runs guide and model of a program that was evaluated, in their own shapes.

    Args:
        program: what was evaluated.
        draws: the value of each latent site of the guide, without dims of particles and evaluations.
        model_values: the same of what the model alone drew, as nodes of a trace.
        relaxed: whether values are scored as in evaluations that relax discrete sites.
    """
    recorder = GivenValues(program, draws, tracking=True)
    trace = run_guide(program.guide, program.args, program.kwargs, recorder)
    known = {site.name: site for site in program.ordinary.sites}
    sites, terms, unscored = [], [], set()
    for name in trace.nodes:
        if name in recorder.draws:
            node, draw = recorder.nodes[name], recorder.draws[name]
            plates = frozenset(vectorized_plates(node))
            site = replace(known[name], fn=node["fn"], draw=draw, plates=plates)
            sites.append(site)
            try:
                term = guide_term(site, node, draw, relaxed)
            except (AssertionError, KeyError):  # a density that is known at draws of its own only
                unscored.add(("guide", name))
                continue
            terms.append(replace(term, upstream=recorder.upstream[name] | recorder.control.sites))
    ordinary = OrdinaryGuide(
        trace=trace,
        nodes=recorder.nodes,
        sites=sites,
        terms=terms,
        support_sizes={},
        path={},
        tracked=set(draws),
        control=recorder.control,
        source=program.ordinary.source,
    )
    plain = replace(
        program,
        vectorized=False,
        axes=recorder.axes,
        ordinary=ordinary,
        batch_dims=0,
        branches={},
        model_values=dict(model_values),
        model_parameters={},
    )
    run = GuideRun(trace, sites, {}, terms)
    terms = terms + model_terms(plain, run, relaxed, remember=False, track=True)
    return PlainRun(
        terms={term.key: term for term in terms},
        sites={site.name: site for site in sites},
        unscored=unscored,
        control=recorder.control,
    )


class GivenValues(Rerun):
    """Gives each latent site of the guide a value, without dims of particles and evaluations.

    ``tracking``: whether to watch what becomes of the values.
    """

    def __init__(self, program: Program, given: Mapping[str, Draw], tracking: bool) -> None:
        super().__init__(program, Visible(), ControlFlow(), tracking)
        self.given = given
        self.draws: dict[str, Draw] = {}

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        name = message["name"]
        if message["is_observed"]:
            self.draws[name] = Draw(message["value"])
            return frozenset()
        if name not in self.given:
            raise CannotVectorize(f"site '{name}': it occurs in some evaluations only", ever=False)
        draw = Draw(self.given[name].value, self.given[name].coordinate)
        self.draws[name] = draw = draw.map(lambda x: fitted(x, torch.Size(), fn.shape()))
        self.give(message, draw.value)
        return frozenset([name] if self.tracking else [])
