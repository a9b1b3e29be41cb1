"""Expectations under relaxed laws by quadrature, with the jumps at censored values on cell edges."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Fn = Any


def midpoints(end: float, width: float, reach: float = 25.0) -> Tensor:
    """Of cells some of whose edges are at -end and end."""
    cells = max(1, round(end / width))
    half = math.ceil(reach * cells / end)
    return (torch.arange(-half, half, dtype=torch.float64) + 0.5) * end / cells


def binary_points(temperature: float, end: float) -> Tensor:
    """Noisy logits; a value is censored beyond ``temperature * end``."""
    return midpoints(temperature * end, 1e-3)


def one_hot_points(classes: int, temperature: float, end: float) -> Tensor:
    """Differences of noisy logits to the last, which is 0: a row for each point."""
    # Cells of unequal widths: the third line of jumps, at equal distance, crosses them anywhere.
    widths = (1e-3,) if classes == 2 else (0.05, 0.071)
    axes = [midpoints(temperature * end, width) for width in widths]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, classes - 1)
    return torch.cat([points, torch.zeros(len(points), 1, dtype=torch.float64)], -1)


def log_weights(fn: Fn, points: Tensor, at: float) -> Tensor:
    """Log probabilities of the cells under ``fn``, for values that belong to temperature ``at``."""
    logits, temperature = fn.logits.double(), fn.temperature.double()
    if fn.event_shape:
        scores = logits - temperature / at * points
        density = scores.log_softmax(-1).sum(-1) + (scores.shape[-1] - 1) * temperature.log()
    else:
        d = logits - temperature / at * points
        density = temperature.log() + logsigmoid(d) + logsigmoid(-d)
    return density - density.detach().logsumexp(0)


def expected(fn: Fn, points: Tensor, at: float, of: Tensor) -> Tensor:
    """The expectation of what values at the points give, with the gradient by the density's."""
    return (log_weights(fn, points, at).exp() * of.double()).sum()


def pathwise(fn: Fn, points: Tensor, at: float, of: Tensor) -> Tensor:
    """The same, with the gradient by the values'."""
    return (log_weights(fn, points, at).exp().detach() * of.double()).sum()
