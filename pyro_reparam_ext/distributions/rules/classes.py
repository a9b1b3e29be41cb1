"""Discrete values by the number of their class: 0 or 1, an index, or where the 1 of a vector is."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


def class_of(base: TorchDistribution, value: Tensor) -> Tensor:
    """Which class each coordinate of ``value`` is."""
    return value.argmax(-1) if base.event_shape else value.long()


def value_of(base: TorchDistribution, number: Tensor) -> Tensor:
    """The values of Bernoulli, one-hot or categorical coordinates of these classes."""
    if isinstance(base, torch.distributions.Categorical):
        return number
    if not base.event_shape:
        return number.to(base.logits.dtype)
    classes = torch.arange(base.logits.shape[-1], device=number.device)
    return (number.unsqueeze(-1) == classes).to(base.logits.dtype)
