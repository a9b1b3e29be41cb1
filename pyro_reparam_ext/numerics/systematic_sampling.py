"""Systematic sampling: several different ones of ``D``, each with a probability that is known."""

from __future__ import annotations

import torch
from torch import Tensor


def inclusion_probabilities(weights: Tensor, count: int) -> Tensor:
    r"""The probabilities with which each of ``D`` is among ``count`` that are drawn.

    They are proportional to the weights, but for those that would be more than 1, which are 1:
    :math:`\min(1, c w_d)`, with the :math:`c` that makes their sum ``count``.

    Args:
        weights: shape ``(*batch, D)``, not negative; those of weight 0 are never drawn.
        count: no more than ``D``, and if it is ``D``, all are drawn.

    Returns:
        Shape ``(*batch, D)``.

    Example:
        >>> inclusion_probabilities(torch.tensor([8.0, 1.0, 1.0, 2.0]), 2)
        tensor([1.0000, 0.2500, 0.2500, 0.5000])
    """
    size = weights.shape[-1]
    if count == size:
        return torch.ones_like(weights)
    ordered = weights.sort(-1, descending=True).values
    rest = ordered.flip(-1).cumsum(-1).flip(-1)  # of each weight and all that are smaller
    left = count - torch.arange(size, device=weights.device)
    # Those are certain whose weight is more than an equal part of what is left to be drawn.
    certain = (left * ordered > rest).sum(-1, keepdim=True)
    rest = rest.gather(-1, certain).clamp(min=torch.finfo(weights.dtype).tiny)
    return ((count - certain) * weights / rest).clamp(max=1)


def drawn_at(uniform: Tensor, probabilities: Tensor, count: int) -> Tensor:
    """Which of ``D`` each of ``count`` draws is: no two draws are the same one.

    The points ``uniform``, ``uniform + 1``, and so on, each fall into one of ``D`` intervals, side by
    side, as long as the probabilities.

    Args:
        uniform: in ``[0, 1)``, shape ``batch``.
        probabilities: shape ``(*batch, D)``, of :func:`inclusion_probabilities`.
        count: the number of draws.

    Returns:
        Booleans of shape ``(count, *batch, D)``, one of which is true for each draw; none where fewer
        than ``count`` can be drawn.

    Example:
        >>> probabilities = torch.tensor([1.0, 0.25, 0.25, 0.5])
        >>> drawn_at(torch.tensor(0.3), probabilities, 2).int()
        tensor([[1, 0, 0, 0],
                [0, 0, 1, 0]], dtype=torch.int32)
    """
    size, device = probabilities.shape[-1], probabilities.device
    number = torch.arange(count, device=device).reshape((-1,) + (1,) * probabilities.dim())
    if count == size:
        every = number == torch.arange(size, device=device)
        return every.expand(count, *probabilities.shape)
    upper = probabilities.cumsum(-1)
    lower = torch.nn.functional.pad(upper[..., :-1], (1, 0))
    point = number + uniform.unsqueeze(-1)
    return (lower <= point) & (point < upper)
