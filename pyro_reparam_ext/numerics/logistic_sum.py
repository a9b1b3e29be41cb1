r"""Expectations over :math:`(\mu + L) / T` of a standard logistic :math:`L`, by the trapezoid rule.

The sigmoid is the CDF of a second logistic, so that which of the two is integrated out can be chosen:
the narrower, whence the integrand is smooth at any :math:`T`. The rule converges as
:math:`e^{-2 \pi^2 / h}`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

STEP = 0.5
_NODES = tuple(STEP * i for i in range(-80, 81))
_WEIGHTS = tuple(STEP / (2 + 2 * math.cosh(x)) for x in _NODES)


def sigmoid_mean(location: Tensor, temperature: Tensor) -> Tensor:
    r""":math:`E[\sigma((\mu + L) / T)]`."""
    points, weights, _ = _rule(location, temperature)
    return points.sigmoid() @ weights


def sigmoid_slope_mean(location: Tensor, temperature: Tensor) -> Tensor:
    r""":math:`E[\sigma(x) \sigma(-x)]` at :math:`x = (\mu + L) / T`."""
    points, weights, narrow = _rule(location, temperature)
    return (points.sigmoid() * (-points).sigmoid()) @ weights * narrow


def softplus_mean(location: Tensor, temperature: Tensor) -> Tensor:
    r""":math:`E[\log(1 + e^{(\mu + L) / T})]`."""
    points, weights, narrow = _rule(location, temperature)
    return softplus(points) @ weights / narrow


def _rule(location: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    location, temperature = torch.broadcast_tensors(location, temperature)
    one = torch.ones_like(temperature)
    narrow = torch.where(temperature < 1, temperature, one)
    wide = torch.where(temperature < 1, one, temperature)
    nodes = torch.tensor(_NODES, dtype=location.dtype, device=location.device)
    weights = torch.tensor(_WEIGHTS, dtype=location.dtype, device=location.device)
    return (location.unsqueeze(-1) + narrow.unsqueeze(-1) * nodes) / wide.unsqueeze(-1), weights, narrow
