r"""Quadrature of :math:`\int_0^1 f(u)\, du`, whatever power or logarithm f has at the ends.

The double exponential substitution :math:`u = 1 / (1 + e^{-\pi \sinh t})` of Takahasi and Mori, *Double
Exponential Formulas for Numerical Integration*, 1974.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

REACH = 4.2
"""The last :math:`t`: the nodes end at a distance of 1e-45 from either end."""


class Nodes(NamedTuple):
    """Nodes on (0, 1) on the leftmost dim, as logarithms of both distances, and their weights."""

    log_u: Tensor
    log_rest: Tensor
    weights: Tensor


def double_exponential(like: Tensor, steps: int = 64, reach: float = REACH) -> Nodes:
    """``2 steps + 1`` nodes in the precision of ``like``, with dims of size 1 for all of its own."""
    t = torch.linspace(-reach, reach, 2 * steps + 1, dtype=like.dtype, device=like.device)
    t = t.reshape(-1, *(1,) * like.dim())
    logit = torch.pi * t.sinh()
    log_u, log_rest = logsigmoid(logit), logsigmoid(-logit)
    density = torch.pi * t.cosh() * (log_u + log_rest).exp()
    return Nodes(log_u, log_rest, density * (reach / steps))
