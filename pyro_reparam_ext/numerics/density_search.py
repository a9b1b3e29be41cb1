"""Where the mass of a density lies that is known at single points only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .panels import equidistribute
from .real_line_map import RealLineMap

PANELS = 64
_GRID = 256
_ZOOMS = 8
_POLISHES = 5

Function = Callable[[Tensor], Tensor]


class Located(NamedTuple):
    """Panels in the coordinate t of a :class:`RealLineMap`.

    Its centre and width have shape (batch, 1).
    """

    edges: Tensor
    centre: Tensor
    width: Tensor


def locate(log_density: Function, cdf: Function | None, line_map: RealLineMap, like: Tensor) -> Located:
    """Panels, each with a like share of the mass and of the change of the log density.

    A grid over all magnitudes is redistributed several times. Far from a peak the change of the log
    density points to it, or the CDF does, if it is known.

    Args:
        log_density: of x (batch, points), up to a constant.
        cdf: of x, or None.
        line_map: of the support.
        like: a tensor of shape (batch, 1).
    """
    depth = 12 - 0.85 * math.log(torch.finfo(like.dtype).eps)
    s = line_map.grid(_GRID, like).expand(like.shape[:-1] + (_GRID + 1,))
    for _ in range(_ZOOMS):
        x, slope = line_map.from_raw(s)
        gap, mass = _gap(log_density(x) + slope), None
        if cdf is not None:
            mass = _shares(cdf(x).diff(dim=-1))
        s = equidistribute(s, _zoom(s, gap, mass, depth), _GRID)

    x, slope = line_map.from_raw(s)
    gap = _gap(log_density(x) + slope)
    # Of those that are highest the middle one: a grid may have several in one peak.
    centre = s.gather(-1, gap.argmin(-1, keepdim=True))
    width = _log_linear(s, gap).sum(-1, keepdim=True)
    width = torch.maximum(width, torch.finfo(s.dtype).eps * centre.abs()).clamp(min=1e-30)

    t = line_map.relative(s, centre, width)
    for i in range(_POLISHES):
        x, slope = line_map.to_value(t, centre, width)
        gap = _gap(log_density(x) + slope)
        # Deeper than what is kept in the end, so that the cut falls where the grid is fine.
        last = i == _POLISHES - 1
        monitor = _equal(t, gap, depth) if last else _smooth(_equal(t, gap, 1.3 * depth) + 0.1 / _GRID)
        t = equidistribute(t, monitor, PANELS if last else _GRID)
    return Located(t, centre, width)


def _gap(log_density: Tensor) -> Tensor:
    """How far the log density is below its highest point, finite."""
    log_density = log_density.nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    gap = log_density.amax(-1, keepdim=True) - log_density
    return gap.nan_to_num(nan=0.0, posinf=1e30).clamp(max=1e30)


def _log_linear(points: Tensor, gap: Tensor) -> Tensor:
    """The mass between points, the log density taken as linear, over its highest value."""
    step = gap.diff(dim=-1).abs()
    step = torch.where(step < 1e-3, 1e-3, step)
    low = torch.minimum(gap[..., :-1], gap[..., 1:])
    return points.diff(dim=-1) * (-low).exp() * (-torch.expm1(-step) / step)


def _shares(x: Tensor) -> Tensor:
    x = x.nan_to_num(nan=0.0, posinf=0.0).clamp(min=0)
    return x / x.sum(-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def _zoom(points: Tensor, gap: Tensor, mass: Tensor | None, depth: float) -> Tensor:
    mass = _shares(_log_linear(points, gap)) if mass is None else mass
    far = _shares(gap.log1p().diff(dim=-1).abs())
    near = _shares(gap.clamp(max=depth).diff(dim=-1).abs())
    return _smooth(mass + 3 * far + near + 0.2 / _GRID)


def _equal(points: Tensor, gap: Tensor, depth: float) -> Tensor:
    near = _shares(gap.clamp(max=depth).diff(dim=-1).abs())
    return _shares(_log_linear(points, gap)) + 2 * near


def _smooth(monitor: Tensor) -> Tensor:
    """A peak between two points shows beside them."""
    padded = pad(monitor, (1, 1))
    return 0.25 * padded[..., :-2] + 0.5 * monitor + 0.25 * padded[..., 2:]
