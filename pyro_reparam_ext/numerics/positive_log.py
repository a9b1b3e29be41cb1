"""Logarithms of values that may be 0, with finite gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def positive_log(value: Tensor) -> Tensor:
    """The logarithm; at 0, and below the smallest normal float, that of this float."""
    return value.clamp(min=torch.finfo(value.dtype).tiny).log()


def power_at_zero(value: Tensor, exponent: Tensor) -> Tensor:
    """The difference of ``exponent * log(value)`` and ``exponent * positive_log(value)``.

    0 for a positive value; at 0 infinite, or 0 for the exponent 0; NaN below.
    """
    return torch.xlogy(exponent, value.detach().sign())
