r"""A density on the real line as polynomials on panels: its integral, and the inverse of that.

On each panel the density is the Legendre series through its Gauss-Legendre nodes. Everything that
depends on the density alone has the shape (batch, panels) or (batch, panels, nodes); what belongs to a
draw has the shape (batch, draws).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .quadrature import gauss_legendre
from .shapes import broadcast_shapes

NODES = 10
POINTS, WEIGHTS = gauss_legendre(NODES)


def _to_legendre() -> list[list[float]]:
    """From values at the nodes to coefficients of the Legendre series, to the right of a row."""
    z = 2 * np.asarray(POINTS) - 1
    matrix = np.polynomial.legendre.legvander(z, NODES - 1) * (2 * np.arange(NODES) + 1)
    return (matrix * np.asarray(WEIGHTS)[:, None]).tolist()


_TO_LEGENDRE = _to_legendre()


class _Bin(torch.autograd.Function):
    """The last of the sorted ``edges`` (batch, K) that is not above ``value`` (batch, draws)."""

    @staticmethod
    def forward(edges: Tensor, value: Tensor) -> Tensor:
        batch = broadcast_shapes(edges.shape[:-1], value.shape[:-1])
        edges = edges.expand(batch + edges.shape[-1:]).contiguous()
        value = value.expand(batch + value.shape[-1:]).contiguous()
        return torch.searchsorted(edges, value, right=True) - 1

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], edges: Tensor, value: Tensor
    ) -> tuple[Tensor, int]:
        """``torch.searchsorted`` has no batching rule; to it all dims but the last are alike."""
        pairs = list(zip((edges, value), in_dims, strict=True))
        logical = max(x.dim() - (dim is not None) for x, dim in pairs)
        return _Bin.apply(*(_leftmost(x, dim, logical) for x, dim in pairs)), 0


def _leftmost(x: Tensor, dim: int | None, logical: int) -> Tensor:
    """The batch dim, if there is one, at the left of ``logical`` others."""
    if dim is None:
        return x
    x = x.movedim(dim, 0)
    return x.reshape(x.shape[:1] + (1,) * (logical + 1 - x.dim()) + x.shape[1:])


def find(edges: Tensor, value: Tensor) -> Tensor:
    """The panel of each value; those outside go to the first and the last one."""
    return _Bin.apply(edges.detach(), value.detach()).clamp(0, edges.shape[-1] - 2)


def take(table: Tensor, panel: Tensor) -> Tensor:
    return table.expand(panel.shape[:-1] + table.shape[-1:]).gather(-1, panel)


def equidistribute(edges: Tensor, monitor: Tensor, count: int) -> Tensor:
    """``count`` panels, each with the same share of the ``monitor``, which is constant on a panel."""
    cumulative = pad(monitor.cumsum(-1), (1, 0))
    # Not quite from 0 to 1: panels without a share at both ends are left out.
    levels = torch.linspace(1e-6, 1 - 1e-6, count + 1, dtype=edges.dtype, device=edges.device)
    levels = levels * cumulative[..., -1:]
    panel = find(cumulative, levels)
    low, share = take(cumulative, panel), take(monitor, panel)
    fraction = ((levels - low) / share.clamp(min=torch.finfo(edges.dtype).tiny)).clamp(0, 1)
    left = take(edges, panel)
    return left + fraction * (take(edges, panel + 1) - left)


def nodes(edges: Tensor) -> Tensor:
    """Gauss-Legendre nodes of each panel, shape (batch, panels, NODES)."""
    width = edges.diff(dim=-1)[..., None]
    return edges[..., :-1, None] + width * edges.new_tensor(POINTS)


class Series(NamedTuple):
    """The integral of a density on panels; every field is differentiable in the density's values.

    ``base`` is the integral up to the left edge of a panel, less the ``total`` right of the median, so
    that both tails keep their relative precision.
    """

    edges: Tensor
    coefficients: Tensor
    base: Tensor
    upper: Tensor
    total: Tensor

    @property
    def mass(self) -> Tensor:
        return 2 * self.coefficients[..., 0]

    def at(self, panel: Tensor) -> tuple[Tensor, ...]:
        """The coefficients of each draw's panel."""
        return tuple(take(self.coefficients[..., k], panel) for k in range(NODES))

    def cdf(self, t: Tensor) -> Tensor:
        """Shape (batch, draws)."""
        panel = find(self.edges, t)
        left = take(self.edges, panel)
        width = take(self.edges, panel + 1) - left
        z = (2 * (t - left) / width - 1).clamp(-1, 1)
        integral, _ = _integral(self.at(panel), z)
        signed = (take(self.base, panel) + integral) / self.total[..., None]
        return signed + take(self.upper, panel)

    def inverse(self, tail: Tensor, below: Tensor) -> Tensor:
        """Where the lower tail (``below``) or the upper tail is ``tail``, at most one half."""
        mass = self.mass
        right = mass.flip(-1).cumsum(-1).flip(-1)
        left = mass.cumsum(-1)
        logits = pad(left[..., :-1].log() - right[..., 1:].log(), (1, 0), value=-torch.inf)
        logits = pad(logits, (0, 1), value=torch.inf)
        logit = tail.log() - (-tail).log1p()
        panel = find(logits, torch.where(below, logit, -logit))

        lower = torch.where(below, tail, 1 - tail)
        signed = torch.where(take(self.upper, panel) > 0, torch.where(below, tail - 1, -tail), lower)
        aim = signed * self.total[..., None] - take(self.base, panel)
        coefficients = self.at(panel)
        share = (aim / (2 * coefficients[0])).clamp(0, 1)

        # The start is exact for a density that is exponential within the panel; each step of Newton's
        # doubles the number of right digits.
        z = self._exponential(panel, share)
        aim, floor = 2 * share * coefficients[0], 1e-3 * coefficients[0]
        for _ in range(3 if z.dtype == torch.float64 else 2):
            integral, density = _integral(coefficients, z)
            z = (z - (integral - aim) / torch.maximum(density, floor)).clamp(-1, 1)
        edge = take(self.edges, panel)
        return edge + (take(self.edges, panel + 1) - edge) * (0.5 * (z + 1))

    def _exponential(self, panel: Tensor, share: Tensor) -> Tensor:
        a = self.coefficients
        signs = a.new_tensor([(-1.0) ** k for k in range(NODES)])
        floor = 1e-3 * a[..., 0]
        start, end = torch.maximum((a * signs).sum(-1), floor), torch.maximum(a.sum(-1), floor)
        rate = (end / start).log().clamp(-5, 5)
        rate = take(torch.where(rate.abs() < 1e-2, 1e-2, rate), panel)
        return 2 * (share * rate.expm1()).log1p() / rate - 1


def _integral(coefficients: tuple[Tensor, ...], z: Tensor) -> tuple[Tensor, Tensor]:
    """The integral of a Legendre series from -1 to z, and the series at z."""
    previous, legendre = torch.ones_like(z), z
    integral, density = torch.addcmul(coefficients[0], coefficients[0], z), coefficients[0]
    for k, a in enumerate(coefficients[1:], 1):
        following = torch.add((2 * k + 1) / (k + 1) * (z * legendre), previous, alpha=-k / (k + 1))
        integral = torch.addcmul(integral, a, following - previous, value=1 / (2 * k + 1))
        density = torch.addcmul(density, a, legendre)
        previous, legendre = legendre, following
    return integral, density


def series(edges: Tensor, density: Tensor) -> Series:
    """From the density at :func:`nodes`, up to a factor."""
    half = 0.5 * edges.diff(dim=-1)[..., None]
    coefficients = half * (density @ density.new_tensor(_TO_LEGENDRE))
    mass = 2 * coefficients[..., 0]
    left, right = mass.cumsum(-1), mass.flip(-1).cumsum(-1).flip(-1)
    upper = left > right
    total = left[..., -1]
    # base = integral up to the left edge; the same less the total is minus the integral from there on.
    base = torch.where(upper, -right, pad(left[..., :-1], (1, 0)))
    return Series(edges, coefficients, base, upper.to(density.dtype), total)
