"""Values in which costs can be differentiated, and by which nothing else moves."""

from __future__ import annotations

import torch
from torch import Tensor


def leaf(value: Tensor, beside: Tensor) -> Tensor:
    """``value``, which requires a gradient as ``beside`` does, and hands none on to it.

    It serves under ``vmap`` and in a captured graph, where no tensor can be told to require one.
    """
    # Of the branch that is not taken ``where`` makes a gradient of exactly 0, whatever comes back.
    return torch.where(torch.ones_like(value, dtype=torch.bool), value.detach(), beside)
