r"""Whether a guide has converged: what a few steps along its gradient would still gain.

Let :math:`g` be the ELBO's gradient in the guide's parameters and :math:`F` the Fisher information
of the guide (of parameters that its densities don't have: the gradient's mean square in its place).
Half of the draws of the gradient give a direction :math:`d = g / \operatorname{diag} F`;
the other half the slope :math:`d^\top g` along it, with an error that is free of the choice of
:math:`d`. The slope after a step of the length that is right for a guide near its optimum, by the same
random numbers, tells how far to go. What that gains is the difference of the ELBO, by random numbers
that are the same here and there and in no step.

References:
    Amari, 1998, Natural gradient works efficiently in learning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.distributions import Delta
from torch import Tensor

from ..config import Configuration
from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..estimators.disarm import DisARM
from ..estimators.local_expectation import LocalExpectation
from ..estimators.score_function import ScoreFunction
from ..evaluation.costs import Costs
from ..evaluation.invisible import invisible
from ..noise import signs_like
from ..parameters import ParametersMet
from ..study.draws import Draws
from ..study.elbo_call import ElboCall
from ..study.sampler import Sampler
from .guide_draws import PlainSites, Way
from .held_parameters import held
from .weighted_draws import joint_log_weights

DRAWS = 512
"""Draws of the gradient, half of them for the direction."""
FEWEST_DRAWS = 64
"""The same where every draw is a run of its own, or of very many evaluations."""
WORK = 2**15
"""Evaluations of the program, at most, unless the draws are that few."""
PARTICLES_OF_EACH = 4
MOST_EVALUATIONS = 200
"""Those of a site that is summed over coordinate by coordinate."""
CHUNK = 64
"""Draws at once: all by which the Fisher information is found."""
BOUND_DRAWS = 512
SIGNS = 8
"""Random signs by which the squared scores of all draws are summed in one backward pass each."""
STEPS = 8
"""Steps that are looked at, of which each has a direction of its own."""
TRIALS = 5
"""Lengths of a step that are tried."""
LEVEL = 1e-3
"""How often a guide at its optimum may be said to have a slope."""


def quiet(site: dict[str, Any]) -> Estimator | None:
    """An estimator of little variance for a discrete site, if there is one of a bearable cost."""
    fn = site["fn"]
    exact, pairs = LocalExpectation(), DisARM()
    if exact.serves(fn) and exact.evaluations(fn) <= MOST_EVALUATIONS:
        return exact
    return pairs if pairs.serves(fn) else None


@dataclass(frozen=True, eq=False)
class Slope:
    """The gain of a further step in nats, and whether the slope can be told from zero.

    ``most``: what the first step would gain if the slope were two of its errors steeper.
    """

    gain: float
    p_value: float
    most: float = 0.0

    @property
    def is_real(self) -> bool:
        return self.p_value < LEVEL


def slope(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    way: Way,
    enough: float = math.inf,
    estimators: Configuration = None,
) -> Slope:
    """The gain that is left along the gradient of the guide's parameters.

    That of a few steps, as long as they can be told from none, and until they gain ``enough``. The
    parameters are then put back. None for ``estimators``: at discrete sites such as have little
    variance, where the program can be run by them.
    """
    try:
        climb = _Climb(model, guide, args, kwargs, way, estimators or quiet)
    except EstimatorError:
        if estimators is not None:
            raise
        climb = _Climb(model, guide, args, kwargs, way, None)
    if not climb.leaves:
        return Slope(0.0, 1.0)
    gain, p_value, most = 0.0, 1.0, 0.0
    with held(climb.leaves):
        start = climb.elbo()
        for number in range(STEPS):
            try:
                found = climb.step()
                now = climb.elbo() if found < LEVEL else start
            except (ValueError, RuntimeError):
                if not number:
                    raise
                break  # a step away the program can't be run
            if not number:
                p_value, most = found, climb.most
            gain = max(gain, now - start)
            if found >= LEVEL or gain > enough or not math.isfinite(now):
                break
    return Slope(gain, p_value, most)


class _Climb:
    """Steps of the parameters of a guide along the gradient of its ELBO."""

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple,
        kwargs: dict,
        way: Way,
        estimators: Configuration,
    ) -> None:
        self.most = 0.0
        self.plain = way.elbo(CHUNK, ScoreFunction())
        self.program = model, PlainSites()(guide), args, kwargs
        self.sampler = Sampler(
            ElboCall(way.elbo(PARTICLES_OF_EACH, estimators), model, guide, args, kwargs)
        )
        with invisible(model, guide), torch.no_grad(), ParametersMet() as own:
            guide(*args, **kwargs)
        met = self.sampler.parameters.items()
        self.leaves = {name: leaf for name, leaf in met if name in own and leaf.requires_grad}
        self.draws = Draws(self.sampler, list(self.leaves))
        bearable = min(DRAWS, WORK // self.sampler.evaluations) if self.draws.batched else 0
        self.count = max(bearable, FEWEST_DRAWS) // 2
        self.seed, self.stream = torch.randint(2**31, (2,)).tolist()

    def elbo(self) -> float:
        """The ELBO at the parameters as they are, by random numbers that are the same at all."""
        torch.manual_seed(self.seed)
        with torch.no_grad():
            chunks = [self.plain.evaluate(*self.program) for _ in range(BOUND_DRAWS // CHUNK)]
            weights = [joint_log_weights(run) for runs in chunks for run in runs]
            return float(torch.cat(weights).mean())

    def step(self) -> float:
        """Moves the parameters along the gradient; the p-value of a slope of zero."""
        from scipy import stats

        self.stream += 1
        torch.manual_seed(self.stream)
        scores = self._scores()
        direction, added = self._direction({name: (x**2).mean(0) for name, x in scores.items()})
        if not direction:
            return 1.0
        seed = int(torch.randint(2**31, ()))
        before = self._along(direction, seed)
        scored = {name: direction[name] for name in scores if name in direction}
        curvature = added + (float((_dot(scores, scored) ** 2).mean()) if scored else 0.0)
        rise, error = float(before.mean()), float(before.std()) / len(before) ** 0.5
        if curvature > 0:
            self.most = max(rise + 2 * error, 0.0) ** 2 / (2 * curvature)
        if curvature == 0 or rise <= 0:
            return 1.0
        self._go(direction, seed, rise, rise / curvature)
        if before.std() <= 1e-9 * rise:
            return 0.0
        return float(stats.ttest_1samp(before, 0.0, alternative="greater").pvalue)

    def _direction(self, fisher: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """The gradient over the Fisher information, and what that of other parameters adds to it."""
        total = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        squares = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        for chunk in self.draws.chunks(self.count):
            for name in total:
                gradient = -chunk[name].detach()
                total[name] = total[name] + gradient.sum(0) / self.count
                squares[name] = squares[name] + (gradient**2).sum(0) / self.count
        direction, added = {}, 0.0
        for name, gradient in total.items():
            scored = name in fisher and bool((fisher[name] > 0).any())
            scale = fisher[name] if scored else squares[name]
            floor = 1e-6 * scale.max()
            if float(floor) > 0:
                direction[name] = torch.where(scale > 0, gradient / scale.clamp(min=floor), 0.0)
                added += 0.0 if scored else float((direction[name] ** 2 * scale).sum())
        return direction, added

    def _along(self, direction: dict[str, Tensor], seed: int) -> np.ndarray:
        """Draws of the ELBO's slope along a direction."""
        torch.manual_seed(seed)
        found = [-_dot(chunk, direction) for chunk in self.draws.chunks(self.count)]
        return torch.cat(found).double().cpu().numpy()

    def _go(self, direction: dict[str, Tensor], seed: int, rise: float, length: float) -> None:
        """Moves the parameters to where the slope is less than half: by the secant of a bracket."""
        here, low, high = 0.0, (0.0, rise), (math.inf, -math.inf)
        for _ in range(TRIALS):
            self._move(direction, length - here)
            here, after = length, self._slope_here(direction, seed)
            if abs(after) < rise / 2:
                return
            if after > 0:
                low = here, after
            else:
                high = here, after
            length = _between(low, high)
        self._move(direction, low[0] - here)

    def _slope_here(self, direction: dict[str, Tensor], seed: int) -> float:
        """The slope where the parameters are now; minus infinity where the program can't be run."""
        try:
            slope = float(self._along(direction, seed).mean())
        except (ValueError, RuntimeError):
            return -math.inf
        return slope if math.isfinite(slope) else -math.inf

    def _move(self, direction: dict[str, Tensor], length: float) -> None:
        for name, step in direction.items():
            self.leaves[name].data.add_(step, alpha=length)

    def _scores(self) -> dict[str, Tensor]:
        """Vectors whose mean square is the Fisher information, shape ``(SIGNS, *parameter.shape)``."""
        log_q = torch.cat([_log_density(run) for run in self.plain.evaluate(*self.program)])
        if not log_q.requires_grad:
            return {}
        found: dict[str, list[Tensor]] = {name: [] for name in self.leaves}
        for _ in range(SIGNS):
            signs = signs_like(log_q, log_q.shape)
            total = (signs * log_q).sum() / len(log_q) ** 0.5
            gradients = torch.autograd.grad(
                total,
                list(self.leaves.values()),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for name, gradient in zip(self.leaves, gradients, strict=True):
                found[name].append(gradient)
        return {name: torch.stack(rows) for name, rows in found.items()}


def _between(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Where the slope is likely zero, of lengths and slopes at two ends; far out if it has one end."""
    if math.isinf(high[0]):
        return 4 * low[0]
    if math.isinf(high[1]):
        return low[0] + (high[0] - low[0]) / 10
    return low[0] + (high[0] - low[0]) * low[1] / (low[1] - high[1])


def _dot(rows: dict[str, Tensor], direction: dict[str, Tensor]) -> Tensor:
    """The component of each row, of all parameters together, along a direction."""
    parts = [(rows[k].detach() * x).reshape(len(rows[k]), -1).sum(1) for k, x in direction.items()]
    return torch.stack(parts).sum(0)


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
