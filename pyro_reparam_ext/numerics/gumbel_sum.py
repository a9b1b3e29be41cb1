r"""Moments of softmaxes of Gumbel variables, by the trapezoid rule.

For :math:`z_k = \mu_k + G_k` and further Gumbel variables :math:`G'_k`,

.. math::
    P(\arg\max_j z_j + T G'_j = k \mid z) = \mathrm{softmax}(z / T)_k, \qquad
    E[\max_j z_j + T G'_j \mid z] = T \log \sum_j e^{z_j / T} + T \gamma

so that all comes from the law of :math:`G + T G'`, whose CDF is an integral over the narrower of the
two. Everything is computed in float64; about :math:`10^4` terms for each class.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

GAMMA = 0.5772156649015329
STEP = 0.3


class SoftmaxMoments(NamedTuple):
    mean: Tensor
    """:math:`E[y_k]`."""
    slope: Tensor
    r""":math:`E[y_k (1 - y_k)]`."""


def softmax_moments(location: Tensor, temperature: Tensor) -> SoftmaxMoments:
    r"""The first moments of :math:`y = \mathrm{softmax}((\mu + G) / T)`."""
    law = _law(location, temperature)
    winning = (law.log_cdf.sum(-1, keepdim=True) - law.log_cdf).exp()
    mean = STEP * (law.density * winning).sum(-2)
    # The derivative of the mean in its own location is 1 / T of what is asked for.
    slope = -STEP * (law.curvature * winning).sum(-2) * law.scale.unsqueeze(-1)
    return SoftmaxMoments(mean.to(location.dtype), slope.to(location.dtype))


def log_sum_mean(location: Tensor, temperature: Tensor) -> Tensor:
    r""":math:`E[\log \sum_k e^{(\mu_k + G_k) / T}]`."""
    law = _law(location, temperature)
    # Above the mean of the largest alone.
    largest = law.location.argmax(-1, keepdim=True).unsqueeze(-2)
    alone = law.log_cdf.gather(-1, largest.expand(law.log_cdf.shape[:-1] + (1,))).squeeze(-1)
    above = STEP * (alone.exp() - law.log_cdf.sum(-1).exp()).sum(-1)
    maximum = law.location.amax(-1) + GAMMA * (1 + law.narrow) + above
    return (maximum / law.scale - GAMMA).to(location.dtype)


class _Law(NamedTuple):
    """The law of :math:`G + T G'` at nodes, in units of its wider part.

    The last three have the shape (..., nodes, classes).
    """

    location: Tensor
    narrow: Tensor
    """The scale of the narrower part."""
    scale: Tensor
    """:math:`T`, in these units."""
    log_cdf: Tensor
    density: Tensor
    curvature: Tensor


def _law(location: Tensor, temperature: Tensor) -> _Law:
    location, temperature = location.double(), temperature.double()
    below = temperature < 1
    one = torch.ones_like(temperature)
    location = location / torch.where(below, one, temperature).unsqueeze(-1)
    narrow = torch.where(below, temperature, 1 / temperature)
    nodes = _nodes(-6.0, 27.0 + math.log(location.shape[-1]), location)
    points = location.detach().amax(-1, keepdim=True) + nodes
    distance = points.unsqueeze(-1) - location.unsqueeze(-2)
    noise = _nodes(-3.6, 25.0, location)
    weights = STEP * (-noise - (-noise).exp()).exp()
    exponent = narrow[..., None, None, None] * noise - distance.unsqueeze(-1)
    rate = exponent.clamp(max=50.0).exp()
    mass = (-rate).exp() * weights
    slope = rate * mass
    return _Law(
        location,
        narrow,
        torch.where(below, temperature, one),
        mass.sum(-1).clamp(min=torch.finfo(mass.dtype).tiny).log(),
        slope.sum(-1),
        ((rate - 1) * slope).sum(-1),
    )


def log_weighted_sum_mean(log_weights: Tensor) -> Tensor:
    r""":math:`E[\log \sum_k a_k E_k]` of standard exponentials :math:`E_k`, by Frullani's integral.

    .. math::
        E[\log S] = \int_0^\infty \big(e^{-t} - E[e^{-t S}]\big) \frac{dt}{t}, \qquad
        E[e^{-t S}] = \prod_k \frac1{1 + a_k t}

    The rule is in :math:`\log t`.
    """
    exact = log_weights.double()
    largest = exact.detach().amax(-1, keepdim=True)
    log_t = _nodes(-40.0 - math.log(log_weights.shape[-1]), 40.0, exact)
    # Of the largest alone, the mean is known.
    alone = (-softplus(log_t)).exp()
    terms = softplus((exact - largest).unsqueeze(-2) + log_t.unsqueeze(-1))
    above = STEP * (alone - (-terms.sum(-1)).exp()).sum(-1)
    return (largest.squeeze(-1) - GAMMA + above).to(log_weights.dtype)


def _nodes(low: float, high: float, like: Tensor) -> Tensor:
    count = math.ceil((high - low) / STEP)
    return low + STEP * torch.arange(count, dtype=like.dtype, device=like.device)
