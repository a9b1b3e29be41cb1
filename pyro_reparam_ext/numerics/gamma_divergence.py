r"""Kullback-Leibler divergences of Gamma and Dirichlet laws, as sums of terms that are not negative.

In the natural parameter they are Bregman divergences of :math:`\log \Gamma`,

.. math::
    D_f(p, q) = f(q) - f(p) - (q - p) f'(p),

and those of a logarithm, of :math:`a \log a` and of each term of Stirling's series are all functions of
:math:`\varphi(t) = e^t - 1 - t`: of nearby laws, which differ by little, no digit is lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .log_gamma_ratio import SHIFT
from .stirling import SERIES

_NEAR = 0.5
_TERMS = 15


def excess_exponential(t: Tensor) -> Tensor:
    r""":math:`\varphi(t) = e^t - 1 - t`, to its own relative precision, differentiable."""
    near = t.abs() < _NEAR
    s = torch.where(near, t, 0.0)
    series = torch.ones_like(s)
    for n in range(_TERMS, 2, -1):
        series = series * s / n + 1
    far = torch.where(near, 1.0, t)
    return torch.where(near, 0.5 * s * s * series, far.expm1() - far)


def log_ratio(p: Tensor, q: Tensor, difference: Tensor | None = None) -> Tensor:
    r""":math:`\log(q / p)`, of which a small one keeps the digits of the difference of both."""
    step = (q - p if difference is None else difference) / p
    near = step.abs() < _NEAR
    return torch.where(near, torch.where(near, step, 0.0).log1p(), q.log() - p.log())


def rest_divergence(p: Tensor, q: Tensor, difference: Tensor | None = None) -> Tensor:
    r""":math:`D_f(p, q)` of what Stirling's formula leaves, :math:`\log \Gamma(a) - a \log a + a`.

    In float64, where powers of quotients stay finite. ``difference``: q - p, where it is known better.
    """
    difference = q - p if difference is None else difference
    low = (p < SHIFT) | (q < SHIFT)
    shift = torch.where(low, float(SHIFT), 0.0).to(p.dtype)
    by_series = _series_divergence(p + shift, q + shift, difference)
    near_p, near_q = torch.where(low, p, 1.0), torch.where(low, q, 1.0)
    step = torch.where(low, difference, 0.0)
    # That of log Gamma by its recurrence, less that of a log a.
    steps = sum(excess_exponential(log_ratio(near_p + k, near_q + k, step)) for k in range(SHIFT))
    raised = _entropy_divergence(near_p + SHIFT, near_q + SHIFT, step)
    by_recurrence = by_series + (steps + raised - _entropy_divergence(near_p, near_q, step))
    return torch.where(low, by_recurrence, by_series)


def gamma_divergence(p: Tensor, q: Tensor, log_ratio_of_means: Tensor) -> Tensor:
    """The Kullback-Leibler divergence between Gamma variables.

    Args:
        p: the concentration of the first.
        q: that of the second.
        log_ratio_of_means: the logarithm of the mean of the first over that of the second.
    """
    return rest_divergence(p, q) + q * excess_exponential(log_ratio_of_means)


def dirichlet_divergence(p: Tensor, q: Tensor) -> Tensor:
    """The Kullback-Leibler divergence between vectors Dirichlet with these concentrations."""
    dtype, p, q = torch.promote_types(p.dtype, q.dtype), p.double(), q.double()
    total_p, total_q = p.sum(-1, keepdim=True), q.sum(-1, keepdim=True)
    # Of the totals the sum of the differences, of which a small one keeps its digits.
    difference = (q - p).sum(-1, keepdim=True)
    terms = gamma_divergence(p, q, log_ratio(total_p, total_q, difference) - log_ratio(p, q))
    return (terms.sum(-1) - rest_divergence(total_p, total_q, difference).squeeze(-1)).to(dtype)


def _entropy_divergence(p: Tensor, q: Tensor, difference: Tensor) -> Tensor:
    """The divergence of a log a - a."""
    return q * excess_exponential(-log_ratio(p, q, difference))


def _series_divergence(p: Tensor, q: Tensor, difference: Tensor) -> Tensor:
    """The divergence of half the logarithm of 1 / a, and of the series in odd powers of 1 / a."""
    y = log_ratio(p, q, difference)
    by_logarithm = excess_exponential(y)
    near = y.abs() < _NEAR
    y = torch.where(near, y, 0.0)
    total = 0.5 * by_logarithm
    by_p, by_q, step = 1 / p, 1 / q, difference / p
    for k, coefficient in enumerate(SERIES):
        n = 2 * k + 1
        nearby = by_p**n * (excess_exponential(-n * y) + n * by_logarithm)
        total = total + coefficient * torch.where(near, nearby, by_q**n + by_p**n * (n * step - 1))
    return total
