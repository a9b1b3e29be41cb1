"""The logits of a discrete law of torch, and the parameter that it was made with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_CATEGORICAL = (torch.distributions.Categorical, torch.distributions.OneHotCategorical)


def exact_logits(fn: Any) -> Tensor:
    """The logits of a discrete law of torch, infinite where a probability is given as exactly 0 or 1.

    torch holds those off, so that what is impossible keeps a probability of about 1e-7 in float32.
    """
    attributes = vars(getattr(fn, "_categorical", fn))
    logits = fn.logits
    # The one that was given comes first; the other is there once it has been read.
    if "probs" not in attributes or next(k for k in attributes if k in ("probs", "logits")) == "logits":
        return logits
    probs = attributes["probs"]
    # ``expand`` puts both in this order. Logits that were made of probabilities end where those of the
    # last number before 0 or 1 lie; given ones are further out where the probability rounds to 0 or 1.
    end = -math.log(torch.finfo(probs.dtype).eps) + 0.5
    logits = torch.where((probs == 0) & (logits >= -end), -math.inf, logits)
    if isinstance(fn, _CATEGORICAL):
        return logits
    return torch.where((probs == 1) & (logits <= end), math.inf, logits)


def parameter_of(fn: Any) -> dict[str, Tensor]:
    """The one of ``probs`` and ``logits`` that ``fn`` was made with: torch clamps the other."""
    holder = getattr(fn, "_categorical", fn)
    attributes = vars(holder)
    if "_param" not in attributes:  # Geometric: what was given is there first
        name = next(name for name in attributes if name in ("probs", "logits"))
    else:
        name = "probs" if attributes.get("probs") is holder._param else "logits"
    return {name: attributes[name]}
