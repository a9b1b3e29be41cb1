"""Both tails of Student's t."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .beta_cdf import beta_tails

FAR = 1e150
"""In roots of ``df``: beyond it the square of a value may overflow, and the leading term is exact."""


@torch.no_grad()
def student_tails(y: Tensor, df: Tensor) -> tuple[Tensor, Tensor]:
    """P(T <= y) and P(T > y) for the standard law, in float64; constants, without a gradient.

    By the square over (df + square), which is Beta(1/2, df/2).
    """
    y, df = torch.broadcast_tensors(y.double(), df.double())
    distance = y.abs() / df.sqrt()
    beyond = distance > 1
    ratio = torch.where(beyond, 1 / distance, distance).square()
    near, far = ratio / (1 + ratio), 1 / (1 + ratio)
    near, far = torch.where(beyond, far, near), torch.where(beyond, near, far)
    half = torch.full_like(df, 0.5)
    _, both = beta_tails(near, half, 0.5 * df, complement=far)
    log_beta = torch.lgamma(0.5 * df) + math.lgamma(0.5) - torch.lgamma(0.5 * df + 0.5)
    leading = (-df * distance.log() - (0.5 * df).log() - log_beta).exp()
    tail = 0.5 * torch.where(distance > FAR, leading, both)
    return torch.where(y < 0, tail, 1 - tail), torch.where(y < 0, 1 - tail, tail)
