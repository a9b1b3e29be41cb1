"""Quantiles of Beta variables."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .beta_cdf import beta_tails
from .betainc import log_beta_density
from .gamma_quantile import rough_log_gamma_quantile
from .log1mexp import log1mexp, log_sigmoids
from .normal_tail import normal_quantile

STEPS = 3
TINY = 1e-306
"""Smaller probabilities underflow."""
FAR = 700.0
"""So do values whose logit is below the negative of it."""


@torch.no_grad()
def logit_beta_quantile(log_mass: Tensor, upper: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The logit of x with so much mass above it where ``upper``, else below it; a constant.

    By Halley's method for the logarithm of that mass, which is concave in the logit of x since the
    density of the logit is log-concave: the steps lead to the root from wherever they begin.

    In float64.

    Args:
        log_mass: the logarithm of at most about one half.
        upper: which tail it is of.
        a: positive.
        b: positive; all four of the same shape.
    """
    # The upper tail of x is the lower one of 1 - x.
    p, q = torch.where(upper, b, a), torch.where(upper, a, b)
    logit = _start(log_mass, p, q)
    for _ in range(STEPS):
        log_x, log_rest = log_sigmoids(logit)
        x, rest = log_x.exp(), log_rest.exp()
        mass = beta_tails(x, p, q, complement=rest)[0]
        density, slope = log_beta_density(log_x, log_rest, p, q), p * rest - q * x
        # Of an exponential tail, where the value or its mass underflows.
        underflows = (log_x < -FAR) | (mass < TINY)
        reached = torch.where(underflows, density - slope.clamp(min=TINY).log(), mass.log())
        rate = (density - reached).exp()
        newton = (reached - log_mass) / rate
        bend = slope - rate  # the second derivative over the first
        logit = (logit - newton / (1 - 0.5 * newton * bend).clamp(0.5, 2)).clamp(max=FAR)
    return torch.where(upper, -logit, logit)


def _start(log_mass: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """An approximation to the logit, by how many of the concentrations are above 1.

    Of both by Carter's (NIST Digital Library of Mathematical Functions, 8.18; Abramowitz, Stegun,
    26.5.22), of the first by the limit where -log x is a Gamma variable, else by the leading term of
    the mass, or of the rest of it.
    """
    bell = (p > 1) & (q > 1) & (p < 10 * q)
    e = normal_quantile(log_mass)
    r, s = (1 / (2 * torch.where(bell, c, 2.0) - 1) for c in (p, q))
    mean = 2 / (r + s)
    spread = (e.square() - 3) / 6
    shift = (s - r) * (spread + 5 / 6 - 2 / (3 * mean))
    near = 2 * (e * (mean + spread).clamp(min=TINY).sqrt() / mean + shift) + (p / q).log()
    log_beta = torch.lgamma(p) + torch.lgamma(q) - torch.lgamma(p + q)
    leading = (log_mass + p.log() + log_beta) / p
    rest = (log1mexp(log_mass) + q.log() + log_beta) / q
    rough = rough_log_gamma_quantile(log_mass, torch.ones_like(bell), q)
    log_x = torch.where(p > 1, -rough.exp() / (p + 0.5 * (q - 1)), leading)
    left = torch.where((p > 1) | (leading < -math.log(2)), _logit(log_x), -_logit(rest))
    return torch.where(bell, near, left).clamp(max=FAR)


def _logit(log_x: Tensor) -> Tensor:
    log_x = log_x.clamp(max=-TINY)
    return log_x - log1mexp(log_x)
