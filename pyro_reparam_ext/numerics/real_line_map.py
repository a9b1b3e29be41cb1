"""An interval of the real line, stretched to the whole of it."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Tensor

_FINEST = 1e-6
"""The magnitude of x below which the first grid is uniform."""


def real_line_map_of(support: Any) -> RealLineMap:
    """For the real line, a half-line or an interval with ends that are numbers."""
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    numbers = all(x is None or isinstance(x, Real) for x in (low, high))
    known = isinstance(support, type(constraints.real)) or not (low is None and high is None)
    if getattr(support, "is_discrete", False) or not (known and numbers):
        raise ValueError(
            f"support={support} has to be constraints.real, positive, greater_than, less_than or"
            " interval, with ends that are numbers. Where the ends depend on parameters, let x be a"
            " transform of a variable whose support does not."
        )
    if low is None and high is None:
        return Line()
    return Interval(None if low is None else float(low), None if high is None else float(high))


class RealLineMap:
    """Raw coordinates ``s`` for the search; ``t``, relative to a centre and a width, for precision."""

    def grid(self, count: int, like: Tensor) -> Tensor:
        """``count`` + 1 values of s, over all magnitudes."""
        raise NotImplementedError

    def from_raw(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/ds."""
        raise NotImplementedError

    def relative(self, s: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        """t at the raw coordinate s; both centre and width are raw."""
        raise NotImplementedError

    def to_value(self, t: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dt."""
        raise NotImplementedError

    def from_value(self, x: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        """t."""
        raise NotImplementedError


class Line(RealLineMap):
    """s = x, t = asinh((x - centre) / width)."""

    def grid(self, count: int, like: Tensor) -> Tensor:
        # Squares of x have to stay finite.
        top = math.asinh(min(0.01 * math.sqrt(torch.finfo(like.dtype).max), 1e30) / _FINEST)
        steps = torch.linspace(-top, top, count + 1, dtype=like.dtype, device=like.device)
        return _FINEST * steps.sinh()

    def from_raw(self, s: Tensor) -> tuple[Tensor, Tensor]:
        return s, torch.zeros_like(s)

    def relative(self, s: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        return ((s - centre) / width).asinh()

    def to_value(self, t: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        # log cosh t, without an overflow
        slope = t.abs() + torch.log1p((-2 * t.abs()).exp()) - math.log(2)
        return centre + width * t.sinh(), width.log() + slope

    def from_value(self, x: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        return ((x - centre) / width).asinh()


class Interval(RealLineMap):
    """s = log y, t = s - centre, where y is x - low, 1 / (high - x) or (x - low) / (high - x)."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low, self.high = low, high

    def grid(self, count: int, like: Tensor) -> Tensor:
        info = torch.finfo(like.dtype)
        huge = 0.98 * math.log(info.max)
        length = 1.0 if self.low is None or self.high is None else self.high - self.low

        def nearest(end: float | None) -> float:
            """The logarithm of the smallest distance that floats resolve."""
            if end is None:
                return -huge
            return math.log(4 * info.eps * abs(end) / length) if end else -0.98 * huge

        return torch.linspace(
            nearest(self.low), -nearest(self.high), count + 1, dtype=like.dtype, device=like.device
        )

    def from_raw(self, s: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_value(s, torch.zeros_like(s), s)

    def relative(self, s: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        return s - centre

    def to_value(self, t: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        y, s = centre.exp() * t.exp(), centre + t
        if self.high is None:
            assert self.low is not None
            return self.low + y, s
        if self.low is None:
            return self.high - 1 / y, -s
        length = self.high - self.low
        slope = math.log(length) - s.abs() - 2 * torch.log1p((-s.abs()).exp())
        # From the nearer end.
        odds = (-s.abs()).exp()
        odds = torch.where(s > 0, odds, y.clamp(max=1))
        share = length * (odds / (1 + odds))
        return torch.where(s > 0, self.high - share, self.low + share), slope

    def from_value(self, x: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        if self.high is None:
            assert self.low is not None
            return ((x - self.low) / centre.exp()).log()
        if self.low is None:
            return -((self.high - x) * centre.exp()).log()
        return ((x - self.low) / (self.high - x)).log() - centre
