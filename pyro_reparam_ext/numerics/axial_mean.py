r"""Mean logarithm of the cosine to one axis, of directions that are spread about another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .double_exponential import double_exponential

NEGLIGIBLE = 45.0
"""Where a density has fallen by so many nats, it is left out."""
STEPS = 128
"""Of the quadrature, on each side of the angle at which the other axis is met."""
TERMS = 200
"""Of a series in even dimensions; in odd ones it ends by itself."""


def mean_log_cosine2(dim: int, alpha: Tensor, cosine2: Tensor) -> Tensor:
    r"""The mean of :math:`\log \cos^2` of half the angle between a random direction and an axis.

    The direction x in :math:`\mathbb{R}^d` lies uniformly about its own axis, with
    :math:`s = \cos^2(\varphi / 2) \sim \mathrm{Beta}(\alpha, \beta)` of the angle to it,
    :math:`\beta = (d - 1) / 2`. Of the angle to the other axis,

    .. math::
        \cos^2 = s c + (1 - s)(1 - c) + 2 \sqrt{s (1 - s) c (1 - c)}\, \omega,

    where :math:`\omega` is a coordinate of a uniform direction in :math:`\mathbb{R}^{d - 1}`. The mean
    over :math:`\omega` is a series (:func:`_about`); that over s is computed by quadrature on both
    sides of :math:`s = 1 - c`, where x may be opposite to the axis.

    Args:
        dim: d, at least 2.
        alpha: the first concentration of the Beta variable, of shape (...).
        cosine2: c, that of half the angle between the two axes, of shape (...), in [0, 1].
    """
    alpha, c = torch.broadcast_tensors(alpha, cosine2)
    beta = 0.5 * (dim - 1)
    tiny = torch.finfo(c.dtype).tiny
    rest = (1 - c).clamp(min=tiny)
    met = rest.log() - c.clamp(min=tiny).log()  # the logit of s at which the axis may be opposite

    def log_density(logit: Tensor) -> Tensor:
        return alpha * logsigmoid(logit) + beta * logsigmoid(-logit)

    with torch.no_grad():
        mode = (alpha / beta).log()
        low, high = (_fallen(log_density, mode, side, alpha, beta) for side in (-1, 1))
    middle = torch.minimum(torch.maximum(met, low), high)
    ends = low, torch.minimum(mode, middle), torch.maximum(mode, middle), high
    nodes = double_exponential(alpha, STEPS)
    u, u_rest = nodes.log_u.exp(), nodes.log_rest.exp()
    total = mass = torch.zeros_like(alpha)
    for start, end in pairwise(ends):
        length = end - start
        above, below = (start - middle) + length * u, (end - middle) - length * u_rest
        away = torch.where(start >= middle, above, below)
        logit, beyond = middle + away, (middle - met) + away
        x, y = torch.sigmoid(logit) * c, torch.sigmoid(-logit) * rest
        # x - y is s - (1 - c): without cancellation where the axis is met.
        fall = -(-beyond.abs()).expm1()
        difference = torch.where(beyond > 0, x, -y) * fall
        weight = nodes.weights * length * (log_density(logit) - log_density(mode)).exp()
        total = total + (weight * _about(dim, x, y, difference)).sum(0)
        mass = mass + weight.sum(0)
    return total / mass


def _fallen(
    log_density: Callable[[Tensor], Tensor], mode: Tensor, side: int, alpha: Tensor, beta: float
) -> Tensor:
    """Where the density of the logit has fallen far enough, by bisection."""
    near = torch.zeros_like(mode)
    far = 2 * NEGLIGIBLE / alpha.clamp(max=beta) + 10.0
    peak = log_density(mode)
    for _ in range(50):
        half = 0.5 * (near + far)
        fallen = log_density(mode + side * half) < peak - NEGLIGIBLE
        near, far = torch.where(fallen, near, half), torch.where(fallen, half, far)
    return mode + side * far


def _about(dim: int, x: Tensor, y: Tensor, difference: Tensor) -> Tensor:
    r"""The mean of :math:`\log(x + y + 2 \sqrt{x y}\, \omega)`, given x, y and x - y.

    .. math::
        \log \max(x, y) - \sum_{m \ge 1} \frac{(-\lambda)_m}{(\lambda + 1)_m} \frac{q^m}{m}, \qquad
        \lambda = \frac{d - 3}{2},\ q = \frac{\min(x, y)}{\max(x, y)}
    """
    tiny = torch.finfo(x.dtype).tiny
    if dim == 2:  # omega is -1 or 1
        return difference.abs().clamp(min=tiny).log()
    larger, smaller = torch.maximum(x, y).clamp(min=tiny), torch.minimum(x, y)
    q = smaller / larger
    if dim == 4:
        return larger.log() + _uniform(q, difference.abs() / larger)
    power = 0.5 * (dim - 3)
    ratio, coefficients = 1.0, []
    for m in range(1, TERMS + 1):
        ratio *= (m - 1 - power) / (m + power)
        if abs(ratio) < 1e-18:
            break
        coefficients.append(-ratio / m)
    total = torch.zeros_like(q)
    for coefficient in reversed(coefficients):
        total = (total + coefficient) * q
    return larger.log() + total


def _uniform(q: Tensor, gap: Tensor) -> Tensor:
    r"""The mean of :math:`\log(1 + q + 2 \sqrt q\, \omega)` over (-1, 1); ``gap``: 1 - q."""
    near = q < 0.1
    series = torch.zeros_like(q)
    small = torch.where(near, q, 0.0)
    for m in range(16, 0, -1):
        series = (series + 1 / ((4 * m * m - 1) * m)) * small
    r = torch.where(near, 0.5, q).sqrt()
    tiny = torch.finfo(q.dtype).tiny
    less = torch.where(near, 0.5, gap).clamp(min=tiny) / (1 + r)  # 1 - r
    closed = ((1 + r).square() * (1 + r).log() - less.square() * less.log()) / (2 * r) - 1
    return torch.where(near, series, closed)
