"""Tails of laws of large concentrations, by quadrature of their densities in many digits."""

from collections.abc import Callable

import mpmath as mp
from mpmath import mpf

PIECES = (0, 1, 2, 4, 8, 16, 32, 60)


def gamma_tail(a: float, x: float, *, upper: bool) -> mpf:
    """P(X > x), or P(X <= x), for X ~ Gamma(a, 1)."""
    with mp.workdps(40):
        a, x = mpf(a), mpf(x)
        width = 1 / max(abs((a - 1) / x - 1), 1 / mp.sqrt(a))

        def log_density(y: mpf) -> mpf:
            return (a - 1) * mp.log(y) - y - mp.loggamma(a)

        return _beyond(log_density, x, width if upper else -width, (0, mp.inf))


def beta_tail(a: float, b: float, x: float, *, upper: bool) -> mpf:
    """P(X > x), or P(X <= x), for X ~ Beta(a, b)."""
    with mp.workdps(40):
        a, b, x = mpf(a), mpf(b), mpf(x)
        constant = mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
        slope = abs((a - 1) / x - (b - 1) / (1 - x))
        width = 1 / max(slope, mp.sqrt((a + b) ** 3 / (a * b)))

        def log_density(y: mpf) -> mpf:
            return (a - 1) * mp.log(y) + (b - 1) * mp.log1p(-y) + constant

        return _beyond(log_density, x, width if upper else -width, (0, 1))


def _beyond(log_density: Callable[[mpf], mpf], x: mpf, step: mpf, support: tuple[mpf, mpf]) -> mpf:
    """The mass on one side of x, in pieces of the width that the density has there."""
    low, high = support
    start = log_density(x)
    pieces = [k for k in PIECES if low < x + step * k < high]
    total = mp.quad(lambda t: mp.exp(log_density(x + step * t) - start), pieces)
    return mp.exp(start) * abs(step) * total
