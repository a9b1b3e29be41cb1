"""Sampling, and the pathwise gradient, of mixtures of independent normals."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Size, Tensor

from .implicit import implicit_joint, once
from .mixture_transform import adjoint, choose, joint_adjoint, to_back, to_front


def draw(shape: Size, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Values of this shape, without a gradient.

    ``log_weights`` has the shape (batch, K), ``loc`` and ``scale`` (batch, K) + event.
    """
    lead = len(shape) - (loc.dim() - log_weights.dim())
    index = choose(log_weights, shape[:lead])
    index = index.reshape(index.shape + (1,) * (len(shape) - lead + 1))
    index = index.expand(shape[:lead] + (1,) + shape[lead:])
    wide = shape[:lead] + log_weights.shape[-1:] + shape[lead:]
    loc, scale = (p.expand(wide).gather(lead, index).squeeze(lead) for p in (loc, scale))
    return loc + scale * torch.randn(shape, dtype=loc.dtype, device=loc.device)


def at(value: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """The detached ``value``, moving with the parameters as a sample does.

    Univariate, or with one event dim: ``loc`` and ``scale`` then broadcast to (batch, K, D).
    """
    events = loc.dim() - log_weights.dim()
    pull_back = _joint_pull_back if events else _pull_back
    return implicit_joint(value, pull_back, log_weights, loc, scale)


def _pull_back(
    gradient: Tensor, value: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, value = once(gradient, value), value.detach()
    log_weights, loc, scale = (to_front(x.detach(), 1, value.dim()) for x in (log_weights, loc, scale))
    z = (value - loc) * (1 / scale)
    log_density = torch.addcmul(_constant(scale), z, z, value=-0.5)
    tail = partial(_nearer_tail, value, loc, z)
    to_loc, to_log_weights = adjoint(gradient, log_weights, log_density, tail)
    return to_back(to_log_weights, 1), to_back(to_loc, 1), to_back(to_loc * z, 1)


def _joint_pull_back(
    gradient: Tensor, value: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    draws = value.dim() - 1
    gradient = to_front(once(gradient, value), 1, draws)
    value = to_front(value.detach(), 1, draws).contiguous()
    log_weights = to_front(log_weights.detach(), 1, draws)
    loc, scale = (to_front(x.detach(), 2, draws) for x in (loc, scale))
    precision = 1 / scale
    z = (value - loc) * precision
    slope = z * -precision
    log_density = torch.addcmul(_constant(scale), z, z, value=-0.5)
    tail = partial(_nearer_tail, value, loc, z)
    to = joint_adjoint(gradient, log_weights, log_density, slope, tail)
    to_loc = to.moved - to.log_density * slope
    to_scale = to.moved * z - to.log_density * torch.addcmul(precision, z, slope)
    return to_back(to.log_weights, 1), to_back(to_loc, 2), to_back(to_scale, 2)


def _constant(scale: Tensor) -> Tensor:
    return -(scale.log() + 0.5 * math.log(2 * math.pi))


def _nearer_tail(value: Tensor, loc: Tensor, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    centre = (weights * loc).sum(0)
    side = 2 * (value > centre).to(z.dtype) - 1
    return 0.5 * torch.erfc(z * (math.sqrt(0.5) * side)), side
