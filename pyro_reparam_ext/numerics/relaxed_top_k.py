"""A continuous relaxation of the indicator of the k largest keys."""

from __future__ import annotations

import torch
from torch import Tensor

from .log_simplex import log_rest


def relaxed_top_k(keys: Tensor, k: int, temperature: Tensor) -> Tensor:
    r"""Weights in [0, 1] that sum to k, over the last dim.

    The sum of k softmaxes, each without what those before it took,

    .. math::
        a^j = \mathrm{softmax}(\alpha^j / T), \qquad \alpha^{j+1} = \alpha^j + \log(1 - a^j).

    It may take more than 1 of an item, of two items at T = 1 up to 1.5, at large T up to k. So the sum
    :math:`a` is replaced by :math:`\min(1, c\, a)`, with the :math:`c \ge 1` that leaves the total.

    Args:
        keys: shape (..., n), n > k.
        temperature: broadcasts to the keys.

    References:
        Xie, Ermon, *Reparameterizable Subset Sampling via Continuous Relaxations*, 2019,
        https://arxiv.org/abs/1901.10517. Plötz, Roth, *Neural Nearest Neighbors Networks*, 2018,
        https://arxiv.org/abs/1810.12575.
    """
    scaled = keys / temperature
    log_share = scaled.log_softmax(-1)
    total = log_share.exp()
    for _ in range(k - 1):
        scaled = scaled + _log_rest(log_share) / temperature
        log_share = scaled.log_softmax(-1)
        total = total + log_share.exp()
    return _limited(total, k)


def _log_rest(log_share: Tensor) -> Tensor:
    return log_rest(log_share.movedim(-1, 0)).movedim(0, -1)


def _limited(weights: Tensor, k: int) -> Tensor:
    r""":math:`\min(1, c\, a)`, of sum k.

    With the m largest at 1, the others have to sum to k - m, which says c; for the right m it is the
    largest, since :math:`\sum \min(1, c\, a)` is the least over m of what the pieces give.
    """
    # Items without any weight may have to share what is left.
    weights = weights + torch.finfo(weights.dtype).eps ** 2
    others = weights.sort(-1).values.cumsum(-1)[..., -k:]
    left = torch.arange(1, k + 1, dtype=weights.dtype, device=weights.device)
    factor = (left / others).amax(-1, keepdim=True)
    return (factor * weights).clamp(max=1)
