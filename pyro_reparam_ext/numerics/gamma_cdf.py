"""The CDF of the Gamma distribution, differentiable in the concentration too."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .implicit import implicit_joint
from .incomplete_gamma import gammainc, gammaincc
from .log_gamma_velocity import log_gamma_velocity
from .shapes import broadcast_shapes
from .stirling import stirling_rest

SMALL = 1e-10
"""Below it the leading term of the CDF is exact, also where the value underflows."""


def gamma_cdf(log_value: Tensor, concentration: Tensor) -> Tensor:
    """P(log x <= log_value) for x ~ Gamma(concentration, 1)."""
    shape = broadcast_shapes(log_value.shape, concentration.shape)
    with torch.no_grad():
        y, a = log_value.detach().expand(shape), concentration.detach().expand(shape)
        x = y.exp()
        leading = (a * y - torch.lgamma(a + 1)).clamp(max=0.0).exp()
        cdf = torch.where(x < SMALL, leading, gammainc(a, x.clamp(min=SMALL)))
    return implicit_joint(cdf, _pull_back, log_value, concentration)


def log_gamma_density(log_value: Tensor, concentration: Tensor) -> Tensor:
    """The log-density of log x, from its deviation from log(concentration)."""
    deviation = log_value - concentration.log()
    rest, _ = stirling_rest(concentration)
    near = deviation.clamp(max=1.0)
    # Further out by x itself, whose gradient in the concentration is not one of two large terms.
    far = (log_value.exp() - math.e * concentration).clamp(min=0.0)
    far = torch.where(deviation > 1, far, 0.0)
    return -concentration * (near.expm1() - deviation) - far - rest


def _pull_back(
    gradient: Tensor, cdf: Tensor, log_value: Tensor, concentration: Tensor
) -> tuple[Tensor, Tensor]:
    # Beyond it the density is 0, and so are all its derivatives.
    log_value = log_value.clamp(max=math.log(torch.finfo(cdf.dtype).max) - 1)
    density = log_gamma_density(log_value, concentration).exp()
    velocity = log_gamma_velocity(log_value.expand(cdf.shape), concentration)
    return gradient * density, -gradient * density * velocity


@torch.no_grad()
def log_gamma_tails(log_value: Tensor, concentration: Tensor) -> tuple[Tensor, Tensor]:
    """P(log x <= log_value) and P(log x > log_value), each to its own relative precision."""
    below = gamma_cdf(log_value, concentration)
    x = log_value.expand(below.shape).exp()
    above = gammaincc(concentration.expand(below.shape), x.clamp(min=SMALL))
    return below, torch.where(x < SMALL, 1 - below, above)
