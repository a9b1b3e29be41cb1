"""Quantiles of the Gamma distribution, and the standard normal variable that a value stands for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtri

from .gamma_cdf import SMALL, log_gamma_density
from .incomplete_gamma import gamma_tail
from .log1mexp import log1mexp
from .normal_tail import log_ndtr, normal_quantile

STEPS = 3
TINY = 1e-306
"""What stands for a probability that underflows."""
FAR = -704.0
"""Below it, as a logarithm, its leading term does."""


@torch.no_grad()
def log_gamma_quantile(normal: Tensor, concentration: Tensor) -> Tensor:
    r"""log x with :math:`P(a, x) = \Phi(\epsilon)`, for standard normal noise; a constant.

    By Halley's method for the logarithm of the nearer tail, which is concave in log x, from the larger
    of the approximation of Wilson and Hilferty and the leading term of the CDF, a lower bound.
    In float64: relative to the noise the error is below 5e-5, for concentrations from 1e-3 to 1e8 and
    noise between -8 and 8.

    Args:
        normal: noise :math:`\epsilon`.
        concentration: :math:`a > 0`, of a shape that broadcasts with that of the noise.
    """
    e, a = torch.broadcast_tensors(normal.double(), concentration.double())
    log_mass, upper = log_ndtr(-e.abs()), e > 0
    return _refined(_rough(log_mass, upper, e, log_ndtr(e), a), log_mass, upper, a).to(normal.dtype)


@torch.no_grad()
def log_gamma_quantile_of_tail(log_mass: Tensor, upper: Tensor, concentration: Tensor) -> Tensor:
    r"""log x with so much mass above it where ``upper``, else below it; a constant, in float64.

    The error of the mass is below 1e-11 of its logarithm, or that of the incomplete gamma function.

    Args:
        log_mass: the logarithm of at most about one half.
        upper: which tail it is of.
        concentration: :math:`a > 0`; all three of the same shape.
    """
    rough = rough_log_gamma_quantile(log_mass, upper, concentration)
    return _refined(rough, log_mass, upper, concentration)


def rough_log_gamma_quantile(log_mass: Tensor, upper: Tensor, concentration: Tensor) -> Tensor:
    """The same to some percent, where the search begins."""
    e = normal_quantile(log_mass)
    log_cdf = torch.where(upper, log1mexp(log_mass), log_mass)
    return _rough(log_mass, upper, torch.where(upper, -e, e), log_cdf, concentration)


def _rough(log_tail: Tensor, upper: Tensor, e: Tensor, log_cdf: Tensor, a: Tensor) -> Tensor:
    constant = torch.lgamma(a + 1)
    bound = (log_cdf + constant) / a
    root = 1 - 1 / (9 * a) + e / (3 * a.sqrt())
    y = torch.maximum(torch.where(root > 0, a.log() + 3 * root.clamp(min=TINY).log(), bound), bound)
    # Far above, by the leading term of that tail, x^(a - 1) exp(-x) / gamma(a).
    far = a.log() - constant - log_tail
    beyond = upper & (far > 3 * a + 1)
    far = torch.where(beyond, far, 1.0)
    return torch.where(beyond, (far + (a - 1) * far.log()).clamp(min=TINY).log(), y)


def _refined(y: Tensor, log_tail: Tensor, upper: Tensor, a: Tensor) -> Tensor:
    constant = torch.lgamma(a + 1)
    for _ in range(STEPS):
        x = y.exp()
        reached = _log_tail(y, x, a, upper, constant)
        density = log_gamma_density(y, a)
        # Of an exponential tail, where that of the law underflows.
        leading = density - (a - x).abs().clamp(min=TINY).log()
        reached = torch.where(reached < FAR, leading, reached)
        slope = (density - reached).exp() * torch.where(upper, -1.0, 1.0)
        newton = (reached - log_tail) / slope
        step = newton / (1 - 0.5 * newton * (a - x - slope)).clamp(0.5, 2)
        y = y - step.clamp(max=2.0)  # beyond, the upper tail may underflow
    return y


@torch.no_grad()
def gamma_noise(log_value: Tensor, concentration: Tensor, beyond: Tensor | None = None) -> Tensor:
    r"""The standard normal noise of a value, :math:`\Phi^{-1}(P(a, x))`; a constant.

    Args:
        log_value: log x.
        concentration: :math:`a > 0`, of a shape that broadcasts with that of the value.
        beyond: uniform numbers where the value stands for all below it, else 1: the share of their
            probability that is below the true one.
    """
    y, a = torch.broadcast_tensors(log_value.double(), concentration.double())
    lower, upper = (
        _log_tail(y, y.exp(), a, torch.full_like(y, at, dtype=torch.bool), torch.lgamma(a + 1))
        for at in (False, True)
    )
    below, above = lower.exp(), upper.exp()
    if beyond is not None:
        below, above = below * beyond, torch.where(beyond < 1, 1 - below * beyond, above)
    noise = torch.where(below < above, ndtri(below.clamp(min=TINY)), -ndtri(above.clamp(min=TINY)))
    return noise.to(log_value.dtype)


def _log_tail(y: Tensor, x: Tensor, a: Tensor, upper: Tensor, constant: Tensor) -> Tensor:
    """The logarithm of P(a, x), or of 1 - P(a, x); ``constant``: lgamma(a + 1)."""
    leading = (a * y - constant).clamp(max=-TINY)
    near = torch.where(upper, torch.log1p(-leading.exp()), leading)
    inside = x.clamp(min=SMALL)
    far = gamma_tail(a, inside, upper).clamp(min=TINY).log()
    return torch.where(x < SMALL, near, far)
