"""The surrogate loss: the costs themselves, and what the estimators add to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn

from ..estimators.base import Alternatives, Evaluations
from ..estimators.enumeration import Enumeration
from .costs import Costs
from .passes import Pass, Program
from .second_derivative import check_twice, learning


@dataclass(eq=False)
class Surrogate:
    """The loss, a detached scalar, and a scalar whose gradient is the estimate.

    Its second derivative is one of the loss, or raises: see :func:`first_order`.
    """

    loss: Tensor
    surrogate: Tensor


def surrogate_loss(runs: Sequence[Costs], num_particles: int, learn: bool) -> Surrogate:
    """Loss and surrogate of all runs of a program: one if vectorised, else one per particle."""
    total = _direct(runs[0])
    for costs in runs[1:]:
        total = total + _direct(costs)
    if num_particles > 1:
        total = total / num_particles
    loss = total.detach()
    owners = [_with_surrogate(costs.program) for costs in runs]
    if not any(owners):
        return Surrogate(loss, total)
    # What is learned inside a torch.func transform would escape it.
    learn = learn and not torch._C._functorch.is_functorch_wrapped_tensor(total)
    evaluations = [_evaluations(costs, of, learn) for costs, of in zip(runs, owners, strict=True)]
    for costs, of_run in zip(runs, evaluations, strict=True):
        learners: list[Evaluations] = []
        for number, one in of_run.items():
            if len(runs) > 1:
                one = replace(one, peers=_peers(one, costs, runs, evaluations))
            estimator, state = one.site.estimator, one.site.state
            term = estimator.surrogate(one)
            if term is not None:
                term = costs.weighted(term, number).sum()
                total = total + (term / num_particles if num_particles > 1 else term)
            if learn and state is not None:
                learners.append(one)
        if learners:
            total = total + _learning_term(learners)
        for one in learners:
            one.site.estimator.update(one)
    return Surrogate(loss, total)


def _direct(costs: Costs) -> Tensor:
    """The costs averaged over all evaluations whose values follow the guide's law.

    Its gradient is that of the model's parameters and of everything pathwise or enumerated. The log
    density of a value that carries no gradient is held fixed: its expected gradient is zero. So is that
    of an enumerated one, exactly, but not the second derivative of what its probabilities weigh.
    """
    program = costs.program
    hard = {
        ("guide", site.name)
        for site in program.sites
        if not (site.estimator.differentiable or isinstance(site.estimator, Enumeration))
    }
    total: Tensor | None = None
    for p in costs.passes:
        lawful = _lawful(costs, p)
        if not any(lawful):
            continue
        for term in p.terms:
            term = term.detached() if hard and term.key in hard else term
            total = term.added_to(total, costs.expectation(term, p, lawful))
    if total is None:  # a program without sample sites
        return torch.zeros(())
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


def _with_surrogate(program: Program) -> list[int]:
    """The numbers of the sites that may have a surrogate of their own."""
    if not torch.is_grad_enabled():
        return []
    return [
        number
        for number, site in enumerate(program.sites)
        if site.estimator.has_surrogate(site.fn) and site.log_prob.requires_grad
    ]


def _evaluations(costs: Costs, numbers: list[int], learn: bool) -> dict[int, Evaluations]:
    """What each of these sites is to make its surrogate from."""
    if not numbers:
        return {}
    program, result = costs.program, {}
    with torch.no_grad():  # coefficients
        downstream = costs.downstream(numbers)
    relaxed = [n for n in numbers if n in program.alternatives and program.alternatives[n].relaxed]
    if learn and relaxed:
        check_twice(program, costs.passes)
    gradients = costs.gradients(relaxed, learn)
    for number in numbers:
        site = program.sites[number]
        given = site.infer.get("baseline_input", program.args)
        result[number] = Evaluations(
            site=site,
            costs=downstream[number].detach(),
            alternatives=program.alternatives.get(number),
            gradients=gradients.get(number),
            particle_dim=program.particle_dim,
            inputs=tuple(given) if isinstance(given, (tuple, list)) else (given,),
        )
    return result


def _peers(
    one: Evaluations,
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


def _learning_term(learners: list[Evaluations]) -> Tensor | float:
    """Zero, with the gradients of the learning losses in the parameters of the states alone.

    One backward pass for all sites: the loss of one moves with its own state only.
    """
    losses: list[Tensor] = []
    parameters: dict[nn.Parameter, None] = {}
    for one in learners:
        loss = one.site.estimator.learning_loss(one)
        if loss is not None:
            assert one.site.state is not None
            losses.append(loss)
            parameters |= dict.fromkeys(p for p in one.site.state.parameters() if p.requires_grad)
    if not losses:
        return 0.0
    if not parameters:
        return 0.0
    relaxed = [one.site for one in learners if one.gradients is not None]
    with learning(relaxed):
        gradients = torch.autograd.grad(losses, list(parameters), allow_unused=True, retain_graph=True)
    terms = [
        (p * g.detach()).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None
    ]
    value = reduce(torch.add, terms)
    return value - value.detach()
