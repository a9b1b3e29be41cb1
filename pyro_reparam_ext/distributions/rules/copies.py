"""A distribution made from the parameters of another one."""

from __future__ import annotations

from typing import Any

import torch

from .logits import exact_logits
from .wrappers import coordinates, num_coordinate_dims


def unchecked(fn: Any, cls: Any, **parameters: Any) -> Any:
    """``cls`` with parameters that ``fn`` has checked, or was told not to check."""
    new = cls(**parameters, validate_args=False)
    new._validate_args = fn._validate_args
    return new


def rows(fn: Any, start: int, stop: int) -> Any:
    """A distribution of some rows of the leftmost batch dim."""
    base: Any = coordinates(fn)
    if isinstance(base, (torch.distributions.Bernoulli, torch.distributions.OneHotCategorical)):
        base = type(base)(logits=exact_logits(base)[start:stop], validate_args=False)
        return base.to_event(num_coordinate_dims(fn))
    raise NotImplementedError
