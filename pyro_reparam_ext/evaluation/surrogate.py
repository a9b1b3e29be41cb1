"""The surrogate loss: the costs themselves, and what the estimators add to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..estimators.base import Alternatives, Estimator, Evaluations
from ..estimators.pathwise import Pathwise
from .costs import Costs
from .passes import Pass, Program


@dataclass(frozen=True)
class Surrogate:
    """The loss, a detached scalar, and a scalar whose gradient is the estimate."""

    loss: Tensor
    surrogate: Tensor


def surrogate_loss(
    runs: Sequence[Costs], num_particles: int, particle_dim: int | None, learn: bool
) -> Surrogate:
    """Loss and surrogate of all runs of a program: one if vectorised, else one per particle."""
    total = _direct(runs[0])
    for costs in runs[1:]:
        total = total + _direct(costs)
    if num_particles > 1:
        total = total / num_particles
    loss = total.detach()
    # What is learned inside a torch.func transform would escape it.
    learn = learn and not torch._C._functorch.is_functorch_wrapped_tensor(total)
    evaluations = [_evaluations(costs, particle_dim, learn) for costs in runs]
    for costs, of_run in zip(runs, evaluations, strict=True):
        for number, one in of_run.items():
            peers = _peers(one, number, costs, runs, evaluations) if particle_dim is None else None
            one = replace(one, peers=peers)
            estimator, state = one.site.estimator, one.site.state
            term = estimator.surrogate(one)
            if term is not None:
                term = costs.weighted(term, number).sum()
                total = total + (term / num_particles if num_particles > 1 else term)
            if learn and state is not None:
                total = total + _learning_term(estimator, one)
                estimator.update(one)
    return Surrogate(loss, total)


def _direct(costs: Costs) -> Tensor:
    """The costs averaged over all evaluations whose values follow the guide's law.

    Its gradient is that of the model's parameters and of everything pathwise. The log density of a
    value that carries no gradient is held fixed: its expected gradient is zero.
    """
    program = costs.program
    hard = {site.name for site in program.sites if not site.estimator.differentiable}
    total: Tensor | None = None
    for p in costs.passes:
        lawful = _lawful(costs, p)
        if not any(lawful):
            continue
        for term in p.terms:
            term = term.detached() if term.side == "guide" and term.name in hard else term
            total = term.added_to(total, costs.expectation(term, p, lawful))
    assert total is not None
    evaluations = 1 + sum(a.count for a in program.alternatives.values() if _averaged(program, a))
    return total if evaluations == 1 else total / evaluations


def _lawful(costs: Costs, p: Pass) -> list[bool]:
    """Which evaluations of a pass have values that follow the guide's law."""
    rows = [True] * p.ordinary
    for group in p.groups:
        rows += [_averaged(costs.program, costs.program.alternatives[group.owner])] * len(group)
    return rows


def _averaged(program: Program, alternatives: Alternatives) -> bool:
    """Whether alternatives are averaged with the ordinary evaluation.

    Not in a loop: where the number of sites depends on the values drawn, so would the weights.
    """
    return alternatives.marginal and program.vectorized


def _evaluations(costs: Costs, particle_dim: int | None, learn: bool) -> dict[int, Evaluations]:
    """What every site with a surrogate of its own is to make it from."""
    if not torch.is_grad_enabled():
        return {}
    program, result = costs.program, {}
    for number, site in enumerate(program.sites):
        if not (_has_surrogate(site.estimator, site.fn) and site.log_prob.requires_grad):
            continue
        alternatives = program.alternatives.get(number)
        given = site.infer.get("baseline_input", program.args)
        result[number] = Evaluations(
            site=site,
            costs=costs.downstream(number).detach(),
            alternatives=alternatives,
            gradients=(
                costs.gradients(number, learn) if alternatives and alternatives.relaxed else None
            ),
            particle_dim=particle_dim,
            inputs=tuple(given) if isinstance(given, (tuple, list)) else (given,),
        )
    return result


def _has_surrogate(estimator: Estimator, fn: Any) -> bool:
    if isinstance(estimator, Pathwise):
        return estimator.has_score(fn)
    return type(estimator).surrogate is not Estimator.surrogate


def _peers(
    one: Evaluations,
    number: int,
    costs: Costs,
    runs: Sequence[Costs],
    evaluations: Sequence[dict[int, Evaluations]],
) -> Tensor | None:
    """Costs of the same site in the other particles, where these are run in a loop."""
    if not one.site.estimator.uses_cost:
        return None
    peers = [
        other.cost
        for run, of_run in zip(runs, evaluations, strict=True)
        for other in of_run.values()
        if run is not costs
        and other.site.name == one.site.name
        and run.program.ordinary.path == costs.program.ordinary.path
        and other.cost.shape == one.cost.shape
    ]
    return torch.stack(peers) if peers else None


def _learning_term(estimator: Estimator, evaluations: Evaluations) -> Tensor | float:
    """Zero, with the gradient of the learning loss in the parameters of the state alone."""
    loss = estimator.learning_loss(evaluations)
    if loss is None:
        return 0.0
    assert evaluations.site.state is not None
    parameters = [p for p in evaluations.site.state.parameters() if p.requires_grad]
    if not parameters:
        return 0.0
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    terms = [
        (p * g.detach()).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None
    ]
    value = torch.stack(terms).sum()
    return value - value.detach()
