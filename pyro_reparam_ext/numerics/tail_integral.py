r"""Tails of a density that falls at least as a normal one does, to their own relative precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _rule(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes from 1e-17 to 400, and weights."""
    low, high = -3.95, 2.05
    step = (high - low) / (steps - 1)
    s = [low + step * k for k in range(steps)]
    nodes = [math.exp(0.5 * math.pi * math.sinh(x)) for x in s]
    weights = [0.5 * math.pi * math.cosh(x) * node * step for x, node in zip(s, nodes, strict=True)]
    return tuple(nodes), tuple(weights)


NODES, WEIGHTS = _rule(110)


def log_tail(
    log_density: Callable[[Tensor], Tensor], at: Tensor, side: Tensor, slope: Tensor
) -> Tensor:
    r"""The logarithm of the mass beyond a point, on one side of it.

    .. math::
        \log \int_0^\infty f(x + s t)\, dt
            = \log f(x) + \log \int_0^\infty \frac{f(x + s t)}{f(x)}\, dt,

    by the double exponential rule of Takahasi and Mori for half-infinite intervals: no term is
    negative, so that no digit is lost, however far out x is.

    Args:
        log_density: of a law with a concave log density.
        at: x, of shape (...).
        side: s, 1 or -1, of shape (...).
        slope: about :math:`d \log f / dx` at x, of shape (...), from which the width of what is left is
            guessed; at least 1 is taken.
    """
    nodes, weights = (
        torch.tensor(x, dtype=at.dtype, device=at.device).view(-1, *(1,) * at.dim())
        for x in (NODES, WEIGHTS)
    )
    width = 1 / slope.abs().clamp(min=1.0)
    start = log_density(at)
    share = (log_density(at + side * width * nodes) - start).exp()
    return start + (width * (weights * share).sum(0)).log()
