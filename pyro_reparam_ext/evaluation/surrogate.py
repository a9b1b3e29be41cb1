"""The surrogate loss: the costs themselves, and what the estimators add to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn

from ..errors import EstimatorError
from ..estimators.protocol import Evaluations
from ..noise import noise_of
from .bound import charged
from .costs import Costs
from .gradients import differentiated_in, gradients, is_differentiated
from .joint import joints
from .log_weights import LogWeights, log_weights
from .mean import mean_cost
from .objective import Objective
from .program import Program
from .second_derivative import check_twice, learning


@dataclass(eq=False)
class Surrogate:
    """The loss, a detached scalar, and a scalar whose gradient is the estimate.

    Its second derivative is one of the loss, or raises: see :func:`first_order`.
    """

    loss: Tensor
    surrogate: Tensor


def surrogate_loss(
    runs: Sequence[Costs], num_particles: int, learn: bool, objective: Objective
) -> Surrogate:
    """Loss and surrogate of all runs of a program: one if vectorised, else one per particle."""
    weights: LogWeights | None = None
    if objective.is_mean:
        total = mean_cost(runs[0])
        for costs in runs[1:]:
            total = total + mean_cost(costs)
        if num_particles > 1:
            total = total / num_particles
    else:
        weights = log_weights(runs)
        total = -weights.scale * objective.value(weights.values).sum()
        weights = replace(weights, values=weights.values.detach())
    loss = total.detach()
    owners = [_contributing(costs.program) for costs in runs]
    if not any(owners):
        return Surrogate(loss, total)
    # What is learned inside a torch.func transform would escape it.
    learn = learn and not torch._C._functorch.is_functorch_wrapped_tensor(total)
    evaluations = [_evaluations(costs, of, learn) for costs, of in zip(runs, owners, strict=True)]
    updating: list[Evaluations] = []
    for place, (costs, of_run) in enumerate(zip(runs, evaluations, strict=True)):
        learners: list[Evaluations] = []
        for number, one in of_run.items():
            if weights is not None:
                one = charged(
                    one, costs, objective, weights, place if one.particle_dim is None else None
                )
            elif one.site.estimator.min_particles > 1:
                one = replace(one, others=_mean_of_others(one, costs, runs, evaluations))
            estimator, state = one.site.estimator, one.site.state
            with noise_of("site", one.site.name):
                term = estimator.surrogate(one)
            if term is not None:
                _check_gradient(one, term)
                term = costs.weighted(term, number).sum()
                total = total + (term / num_particles if num_particles > 1 else term)
            if learn and state is not None:
                learners.append(one)
        if learners:
            total = total + _learning_term(learners)
        updating += learners
    for one in updating:  # after all particles: what one learns may depend on the draws of the others
        one.site.estimator.update(one)
    return Surrogate(loss, total)


def _contributing(program: Program) -> list[int]:
    """The numbers of the sites whose estimators may add to the derivative of the costs."""
    if not torch.is_grad_enabled():
        return []
    return [
        number
        for number, site in enumerate(program.sites)
        if site.estimator.contributes(site.fn) and site.log_prob.requires_grad
    ]


def _evaluations(costs: Costs, numbers: list[int], learn: bool) -> dict[int, Evaluations]:
    """The costs and gradients from which each of these sites makes its surrogate."""
    if not numbers:
        return {}
    program, result = costs.program, {}
    with torch.no_grad():  # coefficients
        downstream = costs.downstream(numbers)
    derivatives: dict[int, list[Tensor | None]] = {}
    if program.branches:
        twice = [(n, b) for n, _, b in program.all_branches() if is_differentiated(b, learn)]
        check_twice(program, costs.passes, twice)
        derivatives = gradients(costs, numbers, learn)
    shared = joints(costs, derivatives)
    fits = any(program.sites[number].estimator.adds_score for number in numbers)
    parameters = program.guide_parameters() if fits else ()
    for number in numbers:
        site, branches = program.sites[number], program.branches.get(number, ())
        given = site.infer.get("baseline_input", program.args)
        result[number] = Evaluations(
            site=site,
            costs=downstream[number].detach(),
            branches=branches,
            gradients=derivatives.get(number, ()),
            particle_dim=program.particle_dim,
            inputs=tuple(given) if isinstance(given, (tuple, list)) else (given,),
            differentiated=[differentiated_in(costs, number, branch) for branch in branches],
            joint=shared.get(number),
            parameters=parameters,
        )
    return result


def _mean_of_others(
    one: Evaluations,
    costs: Costs,
    runs: Sequence[Costs],
    evaluations: Sequence[dict[int, Evaluations]],
) -> Tensor | None:
    """The mean cost of a site in the other particles; None if there are none."""
    cost, dim = one.mean_cost, one.particle_dim
    if dim is not None:
        return (cost.sum(dim, keepdim=True) - cost) / (cost.shape[dim] - 1)
    # In a loop over particles of dynamic structure, a site may occur in this particle alone.
    peers = [
        other.mean_cost
        for run, of_run in zip(runs, evaluations, strict=True)
        for other in of_run.values()
        if run is not costs
        and other.site.name == one.site.name
        and run.program.ordinary.path == costs.program.ordinary.path
        and other.cost.shape == one.cost.shape
    ]
    return torch.stack(peers).mean(0) if peers else None


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
    relaxed = [one.site for one in learners if any(branch.trains for branch in one.branches)]
    with learning(relaxed):
        gradients = torch.autograd.grad(losses, list(parameters), allow_unused=True, retain_graph=True)
    terms = [
        (p * g.detach()).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None
    ]
    value = reduce(torch.add, terms)
    return value - value.detach()


def _check_gradient(one: Evaluations, term: Tensor) -> None:
    """Raises for a surrogate of other dims than a batch, or without a gradient to learn from."""
    name, dims = type(one.site.estimator).__name__, one.costs.dim() - 1
    if term.dim() != dims:
        raise EstimatorError(
            f"site '{one.site.name}': the surrogate of {name} has shape {tuple(term.shape)}, expected "
            f"the {dims} dims of site.log_prob, {tuple(one.site.log_prob.shape)}: sums over plates and "
            f"particles are taken later. Sum coordinates by sum_rightmost(x, num_coordinate_dims(fn))."
        )
    if not term.requires_grad:
        raise EstimatorError(
            f"site '{one.site.name}': the surrogate of {name} has no gradient; expected a tensor whose "
            f"gradient is the estimate, such as site.log_prob times detached costs. Return None where "
            f"there is nothing to add."
        )
