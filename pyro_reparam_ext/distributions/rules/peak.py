"""Modes of distributions whose class does not say it."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import Distribution

from .dispatch import Rules

_RULES: Rules[Any] = Rules("mode", "log_prob")


def mode_of(fn: Any) -> Tensor:
    """The mode, by the method where there is one.

    Raises:
        NotImplementedError: it is not known.
    """
    rule = _RULES.of(type(fn))
    if rule is None and type(fn).mode is Distribution.mode:
        raise NotImplementedError(
            f"The mode of {type(fn).__name__} is not known. Define the property `mode` in a subclass."
        )
    return fn.mode if rule is None else rule(fn)


@_RULES.register(dist.Logistic)
def _logistic(fn: Any) -> Tensor:
    return fn.loc
