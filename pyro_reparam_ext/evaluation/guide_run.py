"""The guide in one pass, and the terms of its sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..distributions.rules.relaxation import RELAXABLE, linear_log_prob
from ..distributions.rules.wrappers import innermost, log_prob_by
from ..estimators.protocol import Draw, Site
from .control_flow import untracked
from .held import Held, holding
from .ordinary import scored
from .program import Span
from .terms import Term


@dataclass(eq=False)
class GuideRun:
    """The guide in one pass: its trace and sites, the draws that differ, and its terms.

    ``joined``: the alternatives of other sites that are taken along in the evaluation of one.
    ``laws``: the distributions of its sites where they may not be the ordinary ones. ``has_ordinary``:
    whether the ordinary evaluation was put in front of its own.
    """

    trace: Trace
    sites: list[Site]
    draws: dict[str, Draw]
    terms: list[Term]
    joined: Sequence[Span] = ()
    laws: Mapping[str, TorchDistribution] = field(default_factory=dict)
    has_ordinary: bool = False


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
    if relaxed and is_relaxable(site):
        log_prob = score = untracked(linear(node["fn"], draw))
    else:
        # Only the value of a hard site's log density enters, unless it weighs an expectation.
        graph = site.estimator.differentiable or site.estimator.enumerated
        with torch.set_grad_enabled(graph and torch.is_grad_enabled()), holding(held):
            log_prob, score = scored(site.name, site.estimator, held.fn if held else node["fn"], draw)
    return Term.of_guide(node, log_prob, score)


def is_relaxable(site: Site) -> bool:
    """Whether a site that is sampled hard may get relaxed values in some evaluations."""
    return not site.estimator.differentiable and isinstance(innermost(site.fn), RELAXABLE)


def linear(fn: TorchDistribution, draw: Draw) -> Tensor:
    return log_prob_by(lambda base: linear_log_prob(base, draw.value), fn)
