"""A bound by several particles: whose weights it is made of, and its exact mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .grammar import Program


def own_plates(program: Program) -> frozenset[str]:
    """The plates whose elements have weights of their own: all that is scored lies in them.

    Nothing then leaves them, and no form of a feature mixes the elements of a plate that it stays in.
    """
    plates = [frozenset(where) for _, _, where, _, _ in program.laws()]
    return frozenset.intersection(*plates) if plates else frozenset()


def common_scale(program: Program) -> float:
    """What multiplies the bound and is no part of the weights.

    The share that sub-sampled plates show, and a scale that all terms of the program have.
    """
    scales = {law.scale or 1.0 for _, _, _, law, _ in program.laws()}
    plates = map(program.plate, own_plates(program))
    return math.prod(p.size / p.length for p in plates) * (scales.pop() if len(scales) == 1 else 1.0)


def shows_a_part(program: Program) -> bool:
    """Whether a plate is sub-sampled whose elements have no weights of their own."""
    used = {plate for _, _, where, _, _ in program.laws() for plate in where}
    return any(program.plate(name).subsample for name in used - own_plates(program))


def expected_loss(log_mass: Tensor, costs: Tensor, count: int, alpha: float) -> Tensor:
    """The mean of the negative bound.

    Args:
        log_mass: the log probability of all that one particle may draw, shape ``(draws,)``.
        costs: its negative log weights, shape ``(draws, *elements)``.
        count: the number of particles.
        alpha: the order of the bound.
    """
    power = 1 - alpha
    mass = total = torch.zeros((), dtype=costs.dtype)
    for number in range(count):  # an outer sum over the draws of all particles
        place = (None,) * number + (slice(None),) + (None,) * (count - number - 1)
        mass = mass + log_mass[place]
        part = -power * costs[place]
        total = part if number == 0 else torch.logaddexp(total, part)
    bound = (total - math.log(count)) / power
    return -(mass.exp() * bound.reshape(*mass.shape, -1).sum(-1)).sum()
