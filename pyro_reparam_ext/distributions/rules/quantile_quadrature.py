r"""Expectations of a truncated law by quadrature over its quantiles.

.. math::
    \mathrm{E}[g(X)] = \int_0^1 g(F^{-1}(u))\, du

by the double exponential rule, whose nodes come so near to 0 and to 1 that heavy tails are reached.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...numerics.double_exponential import double_exponential
from .dispatch import Rules
from .log_tails import LogTails

_STEPS, _REACH = 88, 5.4
_DEPTH = 345.0
"""Minus the logarithm of the share beyond the last node."""
_SHALLOW = 33.0
"""The same of a base whose quantiles of the upper tail have no precision of their own."""
_LOST = math.log(1e-12)
_AGREE = 1e-5
"""Of the rule with every other node; the error of the whole rule is about its square."""

_KINKS: Rules[Any] = Rules("log_prob")
register_kink = _KINKS.register
"""A decorator for some classes: where their density has a kink, at which the interval is cut."""


class LogEnds(NamedTuple):
    """log F and log (1 - F) of the base at both bounds."""

    cdf_low: Tensor
    cdf_high: Tensor
    survival_low: Tensor
    survival_high: Tensor


class Shares(NamedTuple):
    """Nodes on the leftmost dim: log u, log (1 - u), and their weights."""

    log_u: Tensor
    log_rest: Tensor
    weights: Tensor


def kink_of(fn: Any) -> Tensor | None:
    """Where the density of a base has a kink, if it is known to have one."""
    rule = _KINKS.of(type(fn))
    return None if rule is None else rule(fn)


def shares(like: Tensor, cut: tuple[Tensor, Tensor] | None = None) -> Shares:
    """Nodes for the whole interval, or for both of its parts, given the shares of the two."""
    nodes = double_exponential(like, _STEPS, _REACH)
    if cut is None:
        return Shares(nodes.log_u, nodes.log_rest, nodes.weights)
    below, above = (x.clamp(min=math.exp(-_DEPTH)).log() for x in cut)
    return Shares(
        torch.cat([below + nodes.log_u, torch.logaddexp(below, above + nodes.log_u)]),
        torch.cat([torch.logaddexp(above, below + nodes.log_rest), above + nodes.log_rest]),
        torch.cat([cut[0] * nodes.weights, cut[1] * nodes.weights]),
    )


def quantiles(base: Any, tails: LogTails, ends: LogEnds, nodes: Shares) -> Tensor:
    """Those of the truncated law, each from the nearer end of the line."""
    log_cdf = torch.logaddexp(nodes.log_rest + ends.cdf_low, nodes.log_u + ends.cdf_high)
    log_survival = torch.logaddexp(nodes.log_rest + ends.survival_low, nodes.log_u + ends.survival_high)
    if not tails.exact:
        log_survival = log_survival.clamp(min=-_SHALLOW)
    lower, half = log_cdf < log_survival, -math.log(2)
    from_cdf = tails.from_log_cdf(base, torch.where(lower, log_cdf, half))
    return torch.where(
        lower, from_cdf, tails.from_log_survival(base, torch.where(lower, half, log_survival))
    )


def is_light(
    base: Any, tails: LogTails, ends: LogEnds, infinite: tuple[Tensor, Tensor], order: int
) -> Tensor:
    r"""Whether neither end, where it is infinite, has a tail too heavy for a moment of this order.

    Of a tail of index :math:`\xi` the share :math:`e^{-L (1 - k \xi)}` of the moment k lies beyond the
    last node, which leaves the share :math:`e^{-L}` of the mass.
    """
    depth = _DEPTH if tails.exact else _SHALLOW
    steps = torch.tensor([-depth, -0.8 * depth], dtype=ends.cdf_low.dtype, device=ends.cdf_low.device)
    small = steps.reshape(-1, *(1,) * ends.cdf_low.dim())
    rest = (-small.exp()).log1p()

    def is_heavy(nodes: Shares) -> Tensor:
        logs = quantiles(base, tails, ends, nodes).abs().clamp(min=torch.finfo(small.dtype).tiny).log()
        index = (logs[0] - logs[1]) / (0.2 * depth)
        return depth * (1 - order * index) < -_LOST

    low, high = infinite
    lower, upper = is_heavy(Shares(small, rest, small)), is_heavy(Shares(rest, small, small))
    return ~(low & lower | high & upper)


def expected(terms: Tensor, weights: Tensor, scale: Tensor | float) -> Tensor:
    """The mean of ``terms / weights``; NaN where it has not converged, in units of ``scale``."""
    total = terms.sum(0) / weights.sum(0)
    with torch.no_grad():
        coarse = terms[::2].sum(0) / weights[::2].sum(0)
        converged = (coarse - total).abs() <= _AGREE * scale
    return torch.where(converged, total, math.nan)


@register_kink(torch.distributions.Laplace)
def _laplace(fn: torch.distributions.Laplace) -> Tensor:
    return fn.loc
