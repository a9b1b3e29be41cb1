"""Expectations as weighted sums over values: all of them, or the nodes of a quadrature."""

from __future__ import annotations

import itertools

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import MixtureSameFamilyConstraint

from ..distributions.rules.wrappers import coordinate_support, coordinates, num_coordinates

COUNTS = 40
"""Values of a count without a bound that have any weight."""

Line = tuple[Tensor, Tensor]
"""Nodes on the real line, and the logarithms of their weights."""


def evenly(reach: float, count: int, dtype: torch.dtype) -> Line:
    """So many nodes from minus to plus ``reach``: the trapezoidal rule."""
    line = torch.linspace(-reach, reach, count, dtype=dtype)
    return line, torch.full_like(line, 2 * reach / (count - 1)).log()


def stretched(centre: float, width: float, dtype: torch.dtype) -> Line:
    """Nodes that are close around a centre and reach far out: evenly on the scale of asinh."""
    line, log_weight = evenly(14.0, 8001, dtype)
    return centre + width * line.sinh(), log_weight + (width * line.cosh()).log()


def nodes(fn: TorchDistribution, line: Line) -> Line:
    """Values that have any weight, stacked on the left, and the logarithms of their volumes.

    Those of all coordinates, if these are few; the first counts, of one that has no bound; or those of
    a single continuous coordinate, mapped from the real line.

    Raises:
        ValueError: it is none of these.
    """
    base, count = coordinates(fn), num_coordinates(fn)
    dtype = line[0].dtype
    if base.has_enumerate_support:
        support = coordinate_support(base)
        index = torch.tensor(list(itertools.product(range(len(support)), repeat=count)))
        values = support[index].reshape((-1, *fn.event_shape))
        return values, torch.zeros(len(values), dtype=dtype)
    if count > 1 or base.event_shape:
        raise ValueError(
            f"{type(base).__name__}: expected coordinates of few values, or a single one, was given "
            f"event shape {tuple(fn.event_shape)}, of which the expectation can't be computed. Leave "
            f"out .to_event."
        )
    if base.support.is_discrete:
        return torch.arange(COUNTS, dtype=dtype), torch.zeros(COUNTS, dtype=dtype)
    support = base.support
    if type(support) is MixtureSameFamilyConstraint:  # its components have one
        support = support.base_constraint
    transform = biject_to(support)
    values = transform(line[0])
    return values, transform.log_abs_det_jacobian(line[0], values) + line[1]
