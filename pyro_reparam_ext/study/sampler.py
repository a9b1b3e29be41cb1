"""One label of a study: a program, what is known of it, and its gradient."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from ..estimators.pathwise import Pathwise
from ..evaluation.costs import Costs
from ..evaluation.program import Dependencies
from ..parameters import ParametersMet
from .conditions import Conditions
from .elbo_call import ElboCall

Gradients = dict[str, Tensor]
"""Per parameter, draws on the leftmost dim."""


class Sampler:
    """The gradient of one program in its parameters, and what one run tells of the program."""

    def __init__(self, call: ElboCall) -> None:
        self.call = call
        self.dependencies: Dependencies | None = None
        self._site_elements = 0
        self.unbiased = True
        self.conditions = Conditions()
        self.deterministic = False
        with call.context() as context, ParametersMet() as self.parameters:
            self._probe()
        self.unbiased = self.unbiased and getattr(context, "unbiased", True)

    def _probe(self) -> None:
        """One ordinary run: what is known of the program before any draw."""
        call, elbo = self.call, self.call.elbo
        if not isinstance(elbo, TraceEstimator_ELBO):
            with _LatentSites() as latent, torch.no_grad():
                elbo.loss(call.model, call.guide, *call.args, **call.kwargs)
            self.unbiased = _is_unbiased(elbo, [fn for _, fn in latent.sites])
            guided = dict(reversed(latent.sites))  # of a name's distributions the first: the guide's
            pathwise = {name: Pathwise for name, fn in guided.items() if _is_pathwise(fn)}
            self.conditions = Conditions(pathwise)
            self.evaluations = elbo.num_particles
            return
        runs = call.evaluate()
        sites = [site for run in runs for site in run.program.sites]
        self.unbiased = all(site.estimator.is_unbiased_at(site.fn) for site in sites) and all(
            run.program.ordinary.source.unbiased for run in runs
        )
        conditional = {
            site.name: site.estimator.conditional
            for site in sites
            if site.estimator.conditional.condition and not site.observed and _is_random(site.fn)
        }
        self.conditions = Conditions(conditional)
        self.deterministic = all(
            site.estimator.enumerated or site.observed for site in sites
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
        """The surrogate loss, whose derivative is one draw of the gradient."""
        call, elbo = self.call, self.call.elbo
        if isinstance(elbo, TraceEstimator_ELBO):
            return elbo.surrogate(call.evaluate(self.dependencies), learn=False).surrogate
        return elbo.differentiable_loss(call.model, call.guide, *call.args, **call.kwargs)

    def gradient(self, leaves: dict[str, Tensor]) -> Gradients:
        """One gradient, computed as in training; the parameters' ``grad`` is left as it was."""
        call = self.call
        everything = self.parameters.values()
        before = [leaf.grad for leaf in everything]
        for leaf in everything:
            leaf.grad = None
        try:
            if isinstance(call.elbo, TraceEstimator_ELBO):
                call.elbo.surrogate(call.evaluate(), learn=False).surrogate.backward()
            else:
                call.elbo.loss_and_grads(call.model, call.guide, *call.args, **call.kwargs)
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
        given = (*self.call.args, *self.call.kwargs.values())
        data = sum(x.numel() for x in given if isinstance(x, Tensor))
        parameters = sum(leaf.numel() for leaf in self.parameters.values())
        return max(parameters, data * self.evaluations + self._site_elements, 1)

    def learn(self, steps: int, advance: Callable[[int], Any]) -> None:
        """Trains control variates and baselines, with model and guide as they are."""
        call, elbo = self.call, self.call.elbo
        if not isinstance(elbo, TraceEstimator_ELBO) or not len(elbo.states):
            advance(steps)
            return
        learned = [p for p in elbo.states.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=0.01) if learned else None
        with call.context():
            for _ in range(steps):
                surrogate = elbo.surrogate(call.evaluate(), learn=True).surrogate
                if optimizer is not None:
                    gradients = torch.autograd.grad(surrogate, learned, allow_unused=True)
                    for p, gradient in zip(learned, gradients, strict=True):
                        p.grad = gradient
                    optimizer.step()
                advance(1)
        for p in learned:
            p.grad = None

    def seconds(self, names: list[str], repeats: int) -> list[float]:
        """Times of single gradients, computed as in training, by the wall clock.

        By that of the processor, where it shows less: other programs on the machine then had the rest.
        """
        leaves = {name: self.parameters[name] for name in names}
        times = []
        with self.call.context():
            for _ in range(repeats):
                wall, own = time.perf_counter(), time.process_time()
                self.gradient(leaves)
                times.append(min(time.perf_counter() - wall, time.process_time() - own))
        return times


def _is_random(fn: TorchDistribution) -> bool:
    return not isinstance(innermost(fn), Delta)


def _is_pathwise(fn: TorchDistribution) -> bool:
    """Whether Pyro's own ELBOs differentiate through the sample."""
    return bool(fn.has_rsample) and _is_random(fn)


def _evaluations(run: Costs) -> int:
    """The evaluations that the estimators declare, which the ELBO holds against those that it runs."""
    program = run.program
    sites = (program.sites[owner] for owner in program.branches)
    further = sum(site.estimator.evaluations(site.fn) - 1 for site in sites)
    sizes = program.ordinary.support_sizes.values() if program.vectorized else ()
    return (1 + further) * int(torch.Size(sizes).numel())


def _subsamples(run: Costs) -> bool:
    nodes = run.program.ordinary.trace.nodes.values()
    plates = (node["fn"] for node in nodes if site_is_subsample(node))
    return any(plate.subsample_size not in (None, plate.size) for plate in plates)


def discrete_sites(call: ElboCall, guide: Callable[..., Any]) -> dict[str, bool]:
    """The latent sites of a guide, and whether their values are discrete."""
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(*call.args, **call.kwargs)
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
