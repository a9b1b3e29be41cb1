"""Logarithms of the components of a simplex, without loss where one of them is nearly all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .select import above, select

HALF = -0.69
"""Just above the logarithm of one half: no two components exceed it."""


def normalized(x: Tensor) -> Tensor:
    """``log_softmax`` over the first dim, precise also for a component close to 0.

    The logarithm of the largest component is that of one plus all the others.
    """
    relative = x - x.amax(0)
    smaller = above(-relative, 0.0)
    # Without the largest, and but for one of several of the same size.
    others = (relative.exp() * smaller).sum(0) + (len(x) - 1 - smaller.sum(0))
    return (relative - others.log1p()).clamp(max=-torch.finfo(x.dtype).tiny)


def log_rest(log_x: Tensor) -> Tensor:
    """log(1 - x) for each component of a vector of the log-simplex, along the first dim."""
    return log_rest_of(log_x, log_x.exp())


def log_rest_of(log_x: Tensor, x: Tensor) -> Tensor:
    """:func:`log_rest` of a vector and its logarithms."""
    large = above(log_x, HALF)
    of_others = torch.sub(log_x, large, alpha=1e30).logsumexp(0)
    by_itself = (-x.clamp(max=math.exp(HALF))).log1p_()
    return select(large, of_others, by_itself)
