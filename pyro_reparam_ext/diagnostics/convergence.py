r"""Whether a guide has converged: what a few steps along its gradient would still gain.

Let :math:`g` be the ELBO's gradient in the guide's parameters and :math:`F` the Fisher information
of the guide. Half of the draws of the gradient give a direction :math:`d = g / \operatorname{diag} F`;
the other half the slope :math:`d^\top g` along it, with an error that is free of the choice of
:math:`d`. The slope after a step of the length that is right for a guide near its optimum, by the same
random numbers, tells how far to go. What that gains is the difference of the ELBO, by random numbers
that are the same here and there and in no step.

References:
    Amari, 1998, Natural gradient works efficiently in learning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.distributions import Delta
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from ..estimators.score_function import ScoreFunction
from ..evaluation.costs import Costs
from ..study.draws import Draws
from ..study.elbo_call import ElboCall
from ..study.sampler import Sampler
from .guide_draws import PlainSites, Way
from .held_parameters import held
from .weighted_draws import joint_log_weights

DRAWS = 128
"""Draws of the gradient, half of them for the direction."""
PARTICLES_OF_EACH = 4
CHUNK = 64
"""Draws at once: all by which the Fisher information is found."""
BOUND_DRAWS = 512
SIGNS = 8
"""Random signs by which the squared scores of all draws are summed in one backward pass each."""
STEPS = 4
"""Steps that are looked at, of which each has a direction of its own."""
LITTLE = 0.01
"""Nats: a step of a smaller gain is the last."""
LEVEL = 1e-3
"""How often a guide at its optimum may be said to have a slope."""


@dataclass(frozen=True, eq=False)
class Slope:
    """The gain of a further step in nats, and whether the slope can be told from zero."""

    gain: float
    p_value: float

    @property
    def is_real(self) -> bool:
        return self.p_value < LEVEL


def slope(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict, way: Way
) -> Slope:
    """The gain that is left along the gradient of the guide's parameters, by the guide's estimators.

    That of a few steps, as long as they can be told from none. The parameters are then put back.
    """
    elbo = way.elbo(PARTICLES_OF_EACH)
    sampler = Sampler(ElboCall(elbo, model, guide, args, kwargs))
    leaves = {k: x for k, x in sampler.parameters.items() if x.requires_grad}
    seed = int(torch.randint(2**31, ()))

    def bound() -> float:
        return _elbo_at(model, guide, args, kwargs, way, seed)

    gain, p_value = 0.0, 1.0
    with held(leaves):
        start = last = bound()
        for number in range(STEPS):
            try:
                scores = _scores(model, guide, args, kwargs, leaves, way)
                found = _step(sampler, leaves, scores)
                now = bound() if found < LEVEL else last
            except (ValueError, RuntimeError):
                if not number:
                    raise
                break  # a step away the program can't be run
            p_value = p_value if number else found
            gain = max(gain, now - start)
            if not now - last > LITTLE:
                break
            last = now
    return Slope(gain, p_value)


def _elbo_at(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    way: Way,
    seed: int,
) -> float:
    """The ELBO at the parameters as they are, by random numbers that are the same at all of them."""
    elbo, guide = way.elbo(CHUNK, ScoreFunction()), PlainSites()(guide)
    torch.manual_seed(seed)
    with torch.no_grad():
        runs = [
            run
            for _ in range(BOUND_DRAWS // CHUNK)
            for run in elbo.evaluate(model, guide, args, kwargs)
        ]
        return float(torch.cat([joint_log_weights(run) for run in runs]).mean())


def _step(sampler: Sampler, leaves: dict[str, Tensor], scores: dict[str, Tensor]) -> float:
    """Moves the parameters along the gradient; the p-value of a slope of zero."""
    from scipy import stats

    fisher = {name: (x**2).mean(0) for name, x in scores.items()}
    names = [name for name, x in fisher.items() if bool((x > 0).any())]
    if not names:
        return 1.0
    draws = Draws(sampler, names)
    direction: dict[str, Tensor] = {}
    chunks = list(draws.chunks(DRAWS // 2))
    for name in names:
        gradient = -torch.cat([chunk[name] for chunk in chunks]).mean(0).detach()
        floor = 1e-6 * fisher[name].max()
        direction[name] = torch.where(fisher[name] > floor, gradient / fisher[name].clamp(min=floor), 0)
    seed = int(torch.randint(2**31, ()))
    before = _along(draws, direction, names, seed)
    curvature, rise = float((_dot(scores, direction, names) ** 2).mean()), float(before.mean())
    if curvature == 0 or rise <= 0:
        return 1.0
    length = rise / curvature
    _move(leaves, direction, length)
    after = float(_along(draws, direction, names, seed).mean())
    _move(leaves, direction, _best(rise, after, length) - length)
    if before.std() <= 1e-9 * rise:
        return 0.0
    return float(stats.ttest_1samp(before, 0.0, alternative="greater").pvalue)


def _best(before: float, after: float, length: float) -> float:
    """Where the parabola of these slopes at either end of a step is highest, at most two steps away."""
    if not np.isfinite(after):
        return 0.0
    bend = (before - after) / length
    return min(2 * length, before / bend) if bend > 0 else length


def _move(leaves: dict[str, Tensor], direction: dict[str, Tensor], length: float) -> None:
    for name, step in direction.items():
        leaves[name].data.add_(step, alpha=length)


def _along(draws: Draws, direction: dict[str, Tensor], names: list[str], seed: int) -> np.ndarray:
    """Draws of the ELBO's slope along a direction."""
    torch.manual_seed(seed)
    found = [-_dot(chunk, direction, names) for chunk in draws.chunks(DRAWS // 2)]
    return torch.cat(found).double().cpu().numpy()


def _dot(rows: dict[str, Tensor], direction: dict[str, Tensor], names: list[str]) -> Tensor:
    """The component of each row, of all parameters together, along a direction."""
    parts = [
        (rows[name].detach() * direction[name]).reshape(len(rows[name]), -1).sum(1) for name in names
    ]
    return torch.stack(parts).sum(0)


def _scores(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    leaves: dict[str, Tensor],
    way: Way,
) -> dict[str, Tensor]:
    """Vectors whose mean square is the Fisher information, shape ``(SIGNS, *parameter.shape)``."""
    elbo = way.elbo(CHUNK, ScoreFunction())
    runs = elbo.evaluate(model, PlainSites()(guide), args, kwargs)
    log_q = torch.cat([_log_density(run) for run in runs])  # shape: (draws,)
    if not log_q.requires_grad:
        return {name: torch.zeros_like(leaf)[None] for name, leaf in leaves.items()}
    found: dict[str, list[Tensor]] = {name: [] for name in leaves}
    for _ in range(SIGNS):
        signs = torch.randint(0, 2, log_q.shape, device=log_q.device).to(log_q.dtype) * 2 - 1
        total = (signs * log_q).sum() / len(log_q) ** 0.5
        gradients = torch.autograd.grad(
            total, list(leaves.values()), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for name, gradient in zip(leaves, gradients, strict=True):
            found[name].append(gradient)
    return {name: torch.stack(rows) for name, rows in found.items()}


def _log_density(run: Costs) -> Tensor:
    """The log density of each draw of a run under the guide, with its gradient at fixed values."""
    program = run.program
    total = torch.zeros(program.num_particles)
    for site in program.sites:
        if site.observed or isinstance(innermost(site.fn), Delta):
            continue
        log_prob = site.log_prob
        if program.particle_dim is None or log_prob.dim() < -program.particle_dim:
            total = total.to(log_prob) + log_prob.sum()
        else:
            log_prob = log_prob.movedim(log_prob.dim() + program.particle_dim, 0)
            total = total.to(log_prob) + log_prob.reshape(len(log_prob), -1).sum(1)
    return total
