"""Quantiles of distributions whose CDF has no inverse in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...numerics.log1mexp import log1mexp
from ..supports.bounds import bounds
from .copies import mapped
from .dispatch import Rules
from .log_tails import BY_CDF, LogTails, register_log_tails, wide
from .quantile import implicit_quantile
from .tails import tails

Rule = Callable[[Any, Tensor, Tensor], Tensor]
_RULES: Rules[Rule] = Rules("cdf")

STEPS = 22
"""Of the search: some ten halvings reach the scale of the law, and Newton's method the last digit."""
FAR = 700.0
"""The ends of the line on which is searched: the logarithms of the largest and the smallest floats."""


def inverse_cdf(fn: Any, u: Tensor) -> Tensor:
    r"""The value below which a share u of the mass lies, for a continuous real variable.

    With a gradient in the parameters and in u (implicit; once). Both tails are solved for on their own,
    in float64: for a share of 1e-300 as well as for 1 - 1e-16.
    """
    return implicit_quantile(fn, u, _plain_inverse)


def _plain_inverse(fn: Any, u: Tensor) -> Tensor:
    x = u.double()
    upper = x > 0.5
    log_mass = torch.where(upper, (-x.clamp(min=0.5)).log1p(), x.clamp(max=0.5).log())
    found = _of_tail(fn, log_mass, upper)
    low, high = _ends(fn)
    found = torch.where(x.isnan(), math.nan, found)
    found = torch.where(x <= 0, -math.inf if low is None else low, found)
    return torch.where(x >= 1, math.inf if high is None else high, found).to(u.dtype)


@torch.no_grad()
def by_search(fn: Any, target: Tensor, upper: Tensor) -> Tensor:
    """The value with a mass of logarithm ``target`` above it where ``upper``, else below it.

    Newton's method for the logarithm of the mass on a line that the support is mapped to, within an
    interval that shrinks to the root, and is halved where a step would leave it.
    """
    to_value = _line(fn)
    low, high = torch.full_like(target, -FAR), torch.full_like(target, FAR)
    t = torch.zeros_like(target)
    for _ in range(STEPS):
        x, log_slope = to_value(t)
        below, above = tails(fn, x)
        log_reached = torch.where(upper, above, below).log()
        # How much the mass below is too large, in logarithms of the mass that is asked for.
        excess = torch.where(upper, target - log_reached, log_reached - target)
        low, high = torch.where(excess < 0, t, low), torch.where(excess > 0, t, high)
        rate = (fn.log_prob(x) + log_slope - log_reached).exp()
        newton = t - excess / rate
        # At the root it may be one of them; where the density is infinite it says nothing.
        inside = (newton >= low) & (newton <= high) & rate.isfinite()
        t = torch.where(inside, newton, 0.5 * (low + high))
    return to_value(t)[0]


def _line(fn: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """From a real number to a value of the support, and the logarithm of the slope."""
    low, high = _ends(fn)

    def real(t: Tensor) -> tuple[Tensor, Tensor]:
        return t.sinh(), t.cosh().log()

    def from_low(t: Tensor) -> tuple[Tensor, Tensor]:
        return low + t.exp(), t

    def to_high(t: Tensor) -> tuple[Tensor, Tensor]:
        return high - (-t).exp(), -t

    def between(t: Tensor) -> tuple[Tensor, Tensor]:
        width = high - low
        near, far = torch.sigmoid(t), torch.sigmoid(-t)
        value = torch.where(t < 0, low + width * near, high - width * far)
        return value, near.log() + far.log() + torch.as_tensor(width, dtype=t.dtype).log()

    if low is None:
        return real if high is None else to_high
    return from_low if high is None else between


def _ends(fn: Any) -> tuple[Any, Any]:
    """The ends of the values among which is searched; None where there is none."""
    low, high = bounds(fn)
    no_low = low is None or (not isinstance(low, Tensor) and low == -math.inf)
    no_high = high is None or (not isinstance(high, Tensor) and high == math.inf)
    return None if no_low else low, None if no_high else high


def _from_log(upper: bool) -> Callable[[Any, Tensor], Tensor]:
    def quantile(fn: Any, log_mass: Tensor) -> Tensor:
        # From the nearer tail: the rest of a mass above one half is known from its logarithm.
        large = log_mass > -math.log(2)
        rest = log1mexp(log_mass.double().clamp(max=-torch.finfo(torch.float64).tiny))
        side = large ^ upper
        return _of_tail(fn, torch.where(large, rest, log_mass.double()), side).to(log_mass.dtype)

    return quantile


INVERTED = LogTails(BY_CDF.log_cdf, BY_CDF.log_survival, _from_log(False), _from_log(True))


def _of_tail(fn: Any, log_mass: Tensor, upper: Tensor) -> Tensor:
    rule = _RULES.of(type(fn)) or by_search
    fn = mapped(fn, wide)
    shape = torch.broadcast_shapes(log_mass.shape, fn.batch_shape)
    return rule(fn, log_mass.expand(shape), upper.expand(shape))


def register_inverted(*classes: type, rule: Rule = by_search) -> None:
    """Makes a search the rule for quantiles of these classes, also from logarithms.

    Args:
        rule: from a distribution, the logarithm of a mass of at most about one half, and whether it is
            that above the value, to the value; all of one shape and in float64.
    """
    _RULES.register(*classes)(rule)
    register_log_tails(*classes)(INVERTED)
