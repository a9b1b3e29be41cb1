"""Relaxed values of Bernoulli and one-hot variables: hardening, and linear log probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def hard_bernoulli(z: Tensor) -> Tensor:
    """0 or 1, as ``z`` is negative or positive."""
    return (z > 0).to(z.dtype)


def hard_one_hot(z: Tensor) -> Tensor:
    """The one-hot vector of the largest coordinate."""
    return torch.zeros_like(z).scatter(-1, z.argmax(-1, keepdim=True), 1)


def bernoulli_linear(logits: Tensor, value: Tensor) -> Tensor:
    """The log probability of 0 or 1, extended linearly to values between; logits may be infinite."""
    logits, value = torch.broadcast_tensors(logits, floating(value, logits))
    log_prob = -binary_cross_entropy_with_logits(within(logits), value, reduction="none")
    impossible = (value - (logits > 0).to(value.dtype)) * logits == -math.inf
    return torch.where(impossible, -math.inf, log_prob)


def one_hot_linear(logits: Tensor, value: Tensor) -> Tensor:
    """The log probability of a one-hot vector, extended linearly.

    ``logits`` are normalised, and minus infinity at classes that are impossible: these count only
    where the value isn't 0.
    """
    log_prob = (within(logits) * value).sum(-1)
    impossible = ((value > 0) & (logits == -math.inf)).any(-1)
    return torch.where(impossible, -math.inf, log_prob)


def far(dtype: torch.dtype) -> float:
    """A large number in place of infinity, where that would be multiplied by 0."""
    return min(1e9, torch.finfo(dtype).max)


def within(logits: Tensor) -> Tensor:
    """The logits without infinities: those that were infinite carry no gradient."""
    end = far(logits.dtype)
    return logits.clamp(-end, end)


def floating(value: Tensor, like: Tensor) -> Tensor:
    """Observed hard values may be integers."""
    return value if value.is_floating_point() else value.to(like.dtype)


def outward(value: Tensor) -> Tensor:
    """The direction towards the nearer end."""
    return torch.where(value > 0.5, 1.0, -1.0).to(value.dtype)
