"""Logarithms of values that may be 0, with finite gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def positive_log(value: Tensor) -> Tensor:
    """The logarithm; at 0, and below the smallest normal float, that of this float."""
    return value.clamp(min=torch.finfo(value.dtype).tiny).log()


def power_at_zero(log_density: Tensor, value: Tensor, exponent: Tensor) -> Tensor:
    """A log density with the term ``exponent * positive_log(value)``, as it is with the logarithm.

    That is another at 0 alone: infinite, without a gradient, but for the exponent 0.
    """
    exponent = exponent.detach()
    end = exponent.sign() * -torch.inf
    return torch.where((value == 0) & (exponent != 0), end, log_density)
