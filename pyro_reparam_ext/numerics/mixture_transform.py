r"""The pathwise gradient of a mixture of factorised components, by the distributional transform.

The coordinates of a draw are transformed one after another into uniforms by the conditional CDFs

.. math::
    F_d(x_d | x_{<d}) = \sum_k w_{kd} F_{kd}(x_d), \qquad w_{kd} \propto w_k \prod_{j<d} f_{kj}(x_j),

and :math:`x` moves so that these uniforms stay as they are. With
:math:`f_d = \sum_k w_{kd} f_{kd}`, :math:`c_{kd} = w_{kd} (F_{kd} - F_d) / f_d` and
:math:`s_{kd} = \partial \log f_{kd} / \partial x_d`, the vector-Jacobian product with :math:`g` is
a scan over the coordinates, last to first, of

.. math::
    \lambda_d = g_d + \sum_k s_{kd} a_{kd}, \qquad a_{k,d-1} = a_{kd} - \lambda_d c_{kd}, \qquad
    a_{kD} = 0,

and gives :math:`\lambda_d w_{k,d+1}` to the coordinate as it would move in component k alone,
:math:`a_{kd}` to :math:`\log f_{kd}(x_d)`, and :math:`a_{k0}` to :math:`\log w_k`. Time and memory are
those of a few tensors of the shape (components, coordinates, draws).

Here components are the first dim, coordinates the second and draws the last ones: in memory, sums over
components and coordinates then have long inner loops.

(Graves, *Stochastic Backpropagation through Mixture Density Distributions*, 2016, arXiv 1607.05690;
Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018, arXiv 1805.08498.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Size, Tensor

NearerTail = Callable[[Tensor], tuple[Tensor, Tensor]]
"""For the weights at a coordinate: each component's mass beyond the value, and on which side.

The second is 1 for the upper tail and -1 for the lower one, the same for all components.
"""


class Adjoint(NamedTuple):
    """The gradients that a draw's gradient gives to its components and weights."""

    moved: Tensor
    log_density: Tensor
    log_weights: Tensor


def choose(log_weights: Tensor, shape: Size) -> Tensor:
    """The index of a component for each draw, of ``shape``; ``log_weights`` (..., components)."""
    cumulative = log_weights.exp().cumsum(-1)
    # Over the total: a last component without weight is never taken.
    levels = cumulative[..., :-1] / cumulative[..., -1:]
    u = torch.rand(shape, dtype=levels.dtype, device=levels.device)
    index = torch.zeros_like(u, dtype=torch.long)
    for k in range(levels.shape[-1]):
        index = index + (u >= levels[..., k])
    return index


def to_front(x: Tensor, count: int, others: int) -> Tensor:
    """The last ``count`` dims first, and after them ``others`` dims, padded on their left."""
    x = x[(None,) * (others + count - x.dim())]
    return x.movedim(tuple(range(others, others + count)), tuple(range(count)))


def to_back(x: Tensor, count: int) -> Tensor:
    """The first ``count`` dims last."""
    return x.movedim(tuple(range(count)), tuple(range(-count, 0)))


def spread(value: Tensor, components: int, event_dim: int) -> Tensor:
    """The value once for each component, on a dim left of the event dims.

    In memory the draws are innermost.
    """
    front = to_front(value, event_dim, value.dim() - event_dim)
    return to_back(front.expand((components,) + front.shape).contiguous(), event_dim + 1)


def nearer(below: Tensor, above: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The tail of the mixture that is the smaller one, from both tails of the components."""
    upper = ((weights * below).sum(0) > 0.5).to(below.dtype)
    return torch.lerp(below, above, upper), 2 * upper - 1


def adjoint(
    gradient: Tensor, log_weights: Tensor, log_density: Tensor, nearer_tail: NearerTail
) -> tuple[Tensor, Tensor]:
    """For univariate components: what goes to their motion and to the log weights.

    ``gradient`` has the shape of the draws, ``log_density`` (components, draws).
    """
    joint = log_density + log_weights
    peak = joint.amax(0)
    share = (joint - peak).exp()
    total = share.sum(0)
    weights = log_weights.exp()
    tail, side = nearer_tail(weights)
    apart = tail - (weights * tail).sum(0)
    return share * (gradient / total), weights * (apart * (gradient * side * _inverse(peak) / total))


def joint_adjoint(
    gradient: Tensor,
    log_weights: Tensor,
    log_density: Tensor,
    log_density_slope: Tensor,
    nearer_tail: NearerTail,
) -> Adjoint:
    """For D coordinates: ``gradient`` of shape (D, draws), the others (components, D, draws).

    ``log_weights`` broadcasts with (components, draws).
    """
    highest = log_density.amax(0)
    joint = _given(log_weights, log_density - highest)
    peak = joint.amax(0)
    share = (joint - peak).exp()
    total = share.sum(0)
    shares = share / total
    weights, posterior = shares[:, :-1], shares[:, 1:]

    tail, side = nearer_tail(weights)
    apart = tail - (weights * tail).sum(0)
    log_total = highest + (total.log() + peak).diff(dim=0)
    slopes = weights * (apart * (side * _inverse(log_total)))

    pending, to_value, to_density = torch.zeros_like(slopes[:, 0]), [], []
    steps = list(zip(gradient.unbind(0), log_density_slope.unbind(1), slopes.unbind(1), strict=True))
    for given, s, slope in reversed(steps):
        here = given + (s * pending).sum(0)
        to_value.append(here)
        to_density.append(pending)
        pending = torch.addcmul(pending, here, slope)
    moved = torch.stack(to_value[::-1]) * posterior
    return Adjoint(moved, torch.stack(to_density[::-1], 1), pending)


def _given(log_weights: Tensor, log_density: Tensor) -> Tensor:
    """The log weights given no coordinate, the first one, the first two, ...; not normalised."""
    steps = log_density.unbind(1)
    joint = [log_weights.expand(steps[0].shape)]
    for step in steps:
        joint.append(joint[-1] + step)
    return torch.stack(joint, 1)


def _inverse(log_x: Tensor) -> Tensor:
    return (-log_x).clamp(max=0.99 * math.log(torch.finfo(log_x.dtype).max)).exp()
