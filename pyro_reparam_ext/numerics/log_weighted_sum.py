r"""The logarithm of :math:`\sum_j w_j e^{l_j}` for weights that may be zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_weighted_sum(weights: Tensor, logits: Tensor) -> Tensor:
    r"""Over the last dim, differentiable in logits and weights, also where a weight is 0.

    A weight of 0 takes its item out, however large its logit is. The slope in that weight,
    :math:`e^{l_j} / \sum_i w_i e^{l_i}`, is held below a bound where it would overflow.
    """
    least = torch.finfo(logits.dtype).min / 2
    shift = torch.where(weights > 0, logits, least).amax(-1, keepdim=True).detach()
    # What is present lies below the shift: only what is absent is held.
    bound = 0.25 * math.log(torch.finfo(logits.dtype).max)
    terms = weights * (logits - shift).clamp(max=bound).exp()
    return terms.sum(-1).log() + shift.squeeze(-1)
