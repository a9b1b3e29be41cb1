"""The mean cost of a program, from which everything but the estimators' own terms learns."""

from __future__ import annotations

import torch
from torch import Tensor

from .costs import Costs
from .passes import Pass
from .terms import Term, weighed
from .weights import Weights


def mean_cost(costs: Costs) -> Tensor:
    """The costs averaged over all evaluations that have a weight.

    Its gradient is that of the model's parameters and of everything pathwise or enumerated. The log
    density of a value that carries no gradient is held fixed: its expected gradient is zero. So is that
    of an enumerated one, exactly, but not the second derivative of what its probabilities weigh.
    """
    program = costs.program
    hard = {
        ("guide", site.name)
        for site in program.sites
        if not (site.estimator.differentiable or site.estimator.enumerated)
    }
    weights = Weights(program)
    total: Tensor | None = None
    for p in costs.passes:
        included = weights.included(p)
        if not any(included):
            continue
        for term in p.terms:
            term = term.detached() if hard and term.key in hard else term
            if weights.equal:
                part = expectation(costs, term, p, included)
            else:
                part = _weighted_mean(costs, term, p, weights)
            total = term.added_to(total, part)
    if total is None:  # a program without sample sites
        return torch.zeros(())
    equal = weights.equal and weights.evaluations > 1
    return total / weights.evaluations if equal else total


def expectation(costs: Costs, term: Term, p: Pass, included: list[bool]) -> Tensor:
    """A term summed over all plates and over the ``included`` evaluations of a pass.

    Differentiable in the probabilities of enumerated sites.
    """
    if len(included) == 1 and not costs.enumerated:
        return _total(term.log_prob)
    log_prob, differs = _averaged(costs, term, p)
    repeats = sum(included)
    if log_prob.shape[:1] == (len(included),) and differs:
        log_prob, repeats = (log_prob if all(included) else log_prob[included]), 1
    factor = repeats * costs.enumerated.fraction(term)
    return _total(log_prob) if factor == 1 else _total(log_prob) * factor


def _weighted_mean(costs: Costs, term: Term, p: Pass, weights: Weights) -> Tensor:
    """A term summed over all plates, and averaged over the evaluations of a pass by weights."""
    log_prob, differs = _averaged(costs, term, p)
    if differs and log_prob.shape[0] > 1:
        log_prob = weighed(log_prob, [weights.rows(term, p)])
    return _total(log_prob) * costs.enumerated.fraction(term)


def _averaged(costs: Costs, term: Term, p: Pass) -> tuple[Tensor, bool]:
    """A term averaged over enumerated sites; and whether it may differ between evaluations."""
    log_prob, sites = term.log_prob, costs.enumerated.weighing(term)
    if sites:
        kept = frozenset().union(*(site.plates for site in sites))
        dims = [dim for name, dim in term.plates.items() if name not in kept]
        log_prob = term.aligned.sum(dims, keepdim=True) if dims else term.aligned
        log_prob = weighed(log_prob, [p.probs[site.name] for site in sites])
    return log_prob, term.sliced or bool(sites)


def _total(x: Tensor) -> Tensor:
    """The sum of all elements; of a single one no operation."""
    return x.sum() if x.dim() else x
