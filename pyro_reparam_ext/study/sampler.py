"""One label of a study: a program, what is known of it, and its gradient."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta, TorchDistribution
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceTailAdaptive_ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..distributions.rules.known_defects import has_biased_gradient
from ..distributions.rules.wrappers import innermost
from ..elbo import TraceEstimator_ELBO
from ..estimators.enumeration import Enumeration
from ..estimators.pathwise import Pathwise
from ..evaluation.costs import Costs
from ..evaluation.passes import Dependencies
from ..parameters import ParametersMet
from .conditions import Conditions

Gradients = dict[str, Tensor]
"""Per parameter, draws on the leftmost dim."""


@dataclass(frozen=True, eq=False)
class Program:
    """What one label of a study runs."""

    elbo: ELBO
    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple
    kwargs: dict
    context: Callable[[], AbstractContextManager] = nullcontext

    def evaluate(self, dependencies: Dependencies | None = None) -> list[Costs]:
        """All evaluations for one gradient, where the ELBO is one of this package."""
        assert isinstance(self.elbo, TraceEstimator_ELBO)
        return self.elbo.evaluate(self.model, self.guide, self.args, self.kwargs, dependencies)


class Sampler:
    """The gradient of one program in its parameters, and what one run tells of the program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.dependencies: Dependencies | None = None
        self._site_elements = 0
        self.unbiased = True
        self.conditions = Conditions()
        self.deterministic = False
        with program.context() as context, ParametersMet() as self.parameters:
            self._probe()
        self.unbiased = self.unbiased and getattr(context, "unbiased", True)

    def _probe(self) -> None:
        """One ordinary run: what is known of the program before any draw."""
        program, elbo = self.program, self.program.elbo
        if not isinstance(elbo, TraceEstimator_ELBO):
            with _LatentSites() as latent, torch.no_grad():
                elbo.loss(program.model, program.guide, *program.args, **program.kwargs)
            self.unbiased = _is_unbiased(elbo, [fn for _, fn in latent.sites])
            guided = dict(reversed(latent.sites))  # of a name's distributions the first: the guide's
            pathwise = {name: Pathwise for name, fn in guided.items() if _is_pathwise(fn)}
            self.conditions = Conditions(pathwise)
            self.evaluations = elbo.num_particles
            return
        runs = program.evaluate()
        sites = [site for run in runs for site in run.program.sites]
        self.unbiased = all(site.estimator.is_unbiased_at(site.fn) for site in sites)
        conditional = {
            site.name: type(site.estimator)
            for site in sites
            if site.estimator.condition and not site.observed and _is_random(site.fn)
        }
        self.conditions = Conditions(conditional)
        self.deterministic = all(
            isinstance(site.estimator, Enumeration) or site.observed for site in sites
        ) and not any(run.program.model_values or _subsamples(run) for run in runs)
        self.evaluations = sum(_evaluations(run) for run in runs)
        elements = sum(site.fn.shape().numel() for site in runs[0].program.sites)  # of all particles
        self._site_elements = elements * self.evaluations
        if runs[0].program.vectorized:
            self.evaluations *= elbo.num_particles
            terms = runs[0].passes[0].terms
            self.dependencies = {t.key: t.upstream for t in terms if t.upstream is not None}

    # -- gradients --------------------------------------------------------------------------------

    def surrogate(self) -> Tensor:
        """What one gradient is the derivative of."""
        program, elbo = self.program, self.program.elbo
        if isinstance(elbo, TraceEstimator_ELBO):
            return elbo.surrogate(program.evaluate(self.dependencies), learn=False).surrogate
        return elbo.differentiable_loss(program.model, program.guide, *program.args, **program.kwargs)

    def gradient(self, leaves: dict[str, Tensor]) -> Gradients:
        """One gradient, computed as in training; the parameters' ``grad`` is left as it was."""
        program = self.program
        everything = self.parameters.values()
        before = [leaf.grad for leaf in everything]
        for leaf in everything:
            leaf.grad = None
        try:
            if isinstance(program.elbo, TraceEstimator_ELBO):
                program.elbo.surrogate(program.evaluate(), learn=False).surrogate.backward()
            else:
                program.elbo.loss_and_grads(
                    program.model, program.guide, *program.args, **program.kwargs
                )
            return {
                name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                for name, leaf in leaves.items()
            }
        finally:
            for leaf, old in zip(everything, before, strict=True):
                leaf.grad = old

    @property
    def footprint(self) -> int:
        """About how many floats the largest tensor of one gradient has."""
        given = (*self.program.args, *self.program.kwargs.values())
        data = sum(x.numel() for x in given if isinstance(x, Tensor))
        parameters = sum(leaf.numel() for leaf in self.parameters.values())
        return max(parameters, data * self.evaluations + self._site_elements, 1)

    def learn(self, steps: int, advance: Callable[[int], Any]) -> None:
        """Trains control variates and baselines, with model and guide as they are."""
        program, elbo = self.program, self.program.elbo
        if not isinstance(elbo, TraceEstimator_ELBO) or not len(elbo.states):
            advance(steps)
            return
        learned = [p for p in elbo.states.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=0.01) if learned else None
        with program.context():
            for _ in range(steps):
                surrogate = elbo.surrogate(program.evaluate(), learn=True).surrogate
                if optimizer is not None:
                    gradients = torch.autograd.grad(surrogate, learned, allow_unused=True)
                    for p, gradient in zip(learned, gradients, strict=True):
                        p.grad = gradient
                    optimizer.step()
                advance(1)
        for p in learned:
            p.grad = None

    def seconds(self, names: list[str], repeats: int) -> float:
        """Median wall-clock time of one gradient, computed as in training."""
        leaves = {name: self.parameters[name] for name in names}
        times = []
        with self.program.context():
            for _ in range(repeats):
                start = time.perf_counter()
                self.gradient(leaves)
                times.append(time.perf_counter() - start)
        return sorted(times)[repeats // 2]


def _is_random(fn: TorchDistribution) -> bool:
    return not isinstance(innermost(fn), Delta)


def _is_pathwise(fn: TorchDistribution) -> bool:
    """Whether Pyro's own ELBOs differentiate through the sample."""
    return bool(fn.has_rsample) and _is_random(fn)


def _evaluations(run: Costs) -> int:
    program = run.program
    sizes = program.ordinary.support_sizes.values() if program.vectorized else ()
    alternatives = sum(a.count for a in program.alternatives.values())
    return (1 + alternatives) * int(torch.Size(sizes).numel())


def _subsamples(run: Costs) -> bool:
    nodes = run.program.ordinary.trace.nodes.values()
    plates = (node["fn"] for node in nodes if site_is_subsample(node))
    return any(plate.subsample_size not in (None, plate.size) for plate in plates)


def discrete_sites(program: Program, guide: Callable[..., Any]) -> dict[str, bool]:
    """The latent sites of a guide, and whether their values are discrete."""
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(*program.args, **program.kwargs)
    latent = ((name, trace.nodes[name]["fn"]) for name in trace.stochastic_nodes)
    return {name: fn.support.is_discrete for name, fn in latent if hasattr(fn, "support")}


class _LatentSites(Messenger):
    """Collects the distributions of latent sites, however often a program runs."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[tuple[str, TorchDistribution]] = []

    def _pyro_post_sample(self, message: dict[str, Any]) -> None:
        if not message["is_observed"] and not site_is_subsample(message):
            self.sites.append((message["name"], innermost(message["fn"])))


def _is_unbiased(elbo: ELBO, distributions: list[TorchDistribution]) -> bool:
    """Whether one of Pyro's own ELBOs has an unbiased gradient here."""
    known = isinstance(elbo, (Trace_ELBO, TraceGraph_ELBO, TraceEnum_ELBO))
    wrong = any(has_biased_gradient(fn) for fn in distributions)
    return known and not isinstance(elbo, TraceTailAdaptive_ELBO) and not wrong
