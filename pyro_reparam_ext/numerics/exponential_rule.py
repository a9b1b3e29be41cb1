r"""Quadrature of :math:`\int_0^\infty e^{-r} f(r)\, dr` for what moves in an upper tail."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Numbers = tuple[float, ...]


class Rule(NamedTuple):
    nodes: Numbers
    weights: Numbers


def gauss_laguerre(count: int) -> Rule:
    nodes, weights = np.polynomial.laguerre.laggauss(count)
    return Rule(numbers(nodes), numbers(weights))


def numbers(x: Iterable[float]) -> Numbers:
    return tuple(map(float, x))


def tail_moments(factors: Iterable[Tensor], power: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """The mean of u^power and of u^power log(u), given the factors u > 1 at the nodes."""
    mass = moment = torch.zeros_like(power)
    # By powers of 2, which take a third of the time of exp.
    power = power / math.log(2)
    for u, weight in zip(factors, rule.weights, strict=True):
        log_u = u.log()
        density = (power * log_u).exp2_()
        mass = mass.add(density, alpha=weight)
        moment = torch.addcmul(moment, density, log_u, value=weight)
    return mass, moment


# Fitted, nodes and weights, by least squares to the relative error of the velocity where it is
# computed so (a in (0, 8], and all values from `switch` on): fewer nodes than Gauss-Laguerre needs.
GAMMA_SINGLE = Rule(
    (0.2050470223, 1.133916258, 3.010655567, 6.197419751, 11.51853116),
    (0.433802568, 0.4371160574, 0.1207957151, 0.008215651673, 7.002499967e-05),
)
"""Up to 2.4e-7."""
BETA_SINGLE = Rule(
    (0.1285542244, 0.6985048675, 1.813314947, 3.658574457, 6.602162, 11.47729412),
    (0.2922641159, 0.4085840464, 0.234511186, 0.05955564516, 0.005017960888, 6.703619468e-05),
)
"""Up to 2.3e-6."""
