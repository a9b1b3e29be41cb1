"""The regularised incomplete beta function, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from .beta_cdf import beta_tails
from .beta_velocity import logit_beta_velocity
from .implicit import implicit_joint
from .shapes import broadcast_shapes
from .stirling import stirling_rest


def betainc(a: Tensor, b: Tensor, x: Tensor, complement: Tensor | None = None) -> Tensor:
    r"""The regularised incomplete beta function :math:`I_x(a, b)`, the CDF of Beta(a, b) at x.

    Differentiable in all three arguments, by the density and by the implicit gradient of a draw.

    Args:
        a: positive.
        b: positive.
        x: between 0 and 1.
        complement: :math:`1 - x`, where it is known more precisely than by the difference; its gradient
            is that of the difference.
    """
    shape = broadcast_shapes(a.shape, b.shape, x.shape)
    below, _ = beta_tails(x.expand(shape), a, b, complement)
    rest = (1 - x).detach() if complement is None else complement.detach()
    return implicit_joint(below, _pull_back, a, b, x, rest)


def log_beta_density(log_x: Tensor, log_rest: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log-density of logit(x) for x ~ Beta(a, b), from the deviations of log x and log(1 - x)."""
    total = a + b
    rests = [stirling_rest(x)[0] for x in (a, b, total)]
    constant = rests[2] - rests[0] - rests[1]
    return a * (log_x - (a / total).log()) + b * (log_rest - (b / total).log()) + constant


def _pull_back(
    gradient: Tensor, below: Tensor, a: Tensor, b: Tensor, x: Tensor, rest: Tensor
) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        # For a second derivative: as it was given, differentiable as 1 - x.
        by_value = 1 - x
        rest = by_value + (rest - by_value).detach()
    tiny = torch.finfo(below.dtype).tiny
    log_x = x.clamp(min=tiny).log().expand(below.shape)
    log_rest = rest.clamp(min=tiny).log().expand(below.shape)
    weighted = gradient * log_beta_density(log_x, log_rest, a, b).exp()
    da = -weighted * logit_beta_velocity(log_x, log_rest, a, b)
    db = weighted * logit_beta_velocity(log_rest, log_x, b, a)
    return da, db, weighted * (-log_x - log_rest).exp(), None
