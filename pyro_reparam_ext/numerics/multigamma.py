"""The multivariate gamma function."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gamma_divergence import excess_exponential, log_ratio, rest_divergence
from .stirling import stirling_rest


def log_multigamma(x: Tensor, dim: int) -> Tensor:
    r""":math:`\log \Gamma_p(x)` for :math:`p` = ``dim``."""
    return 0.25 * dim * (dim - 1) * math.log(math.pi) + torch.lgamma(_steps(x, dim)).sum(-1)


def multigamma_entropy(x: Tensor, shift: float, dim: int) -> Tensor:
    r""":math:`\log \Gamma_p(x) - (x + s) \psi_p(x) + p x`, by what Stirling's formula leaves of it.

    Its terms of the order of x cancel.
    """
    rest, slope = stirling_rest(_steps(x, dim))
    half = 0.5 * torch.arange(dim, dtype=x.dtype, device=x.device)
    terms = rest - (x[..., None] + shift) * slope - (shift + half) * _steps(x, dim).log() + half
    return 0.25 * dim * (dim - 1) * math.log(math.pi) + terms.sum(-1)


def multigamma_divergence(x: Tensor, y: Tensor, dim: int) -> Tensor:
    r""":math:`\log \Gamma_p(y) - \log \Gamma_p(x) - (y - x) \psi_p(x)`, never negative."""
    p, q, difference = _steps(x, dim), _steps(y, dim), (y - x)[..., None]
    of_entropies = q * excess_exponential(-log_ratio(p, q, difference))
    return (rest_divergence(p, q, difference) + of_entropies).sum(-1)


def _steps(x: Tensor, dim: int) -> Tensor:
    return x[..., None] - 0.5 * torch.arange(dim, dtype=x.dtype, device=x.device)
