r"""The law of the rest of a set that is drawn without replacement, once some of it has been drawn.

For a set :math:`S` out of classes of probabilities :math:`p`, with :math:`A \subseteq S` drawn first,

.. math::
    P(S \mid A) = \sum_{s \in S \setminus A} \frac{p_s}{1 - \sum_{a \in A} p_a}\,
    P(S \mid A \cup \{s\}), \qquad P(S \mid S) = 1.

All terms are positive and the denominator is summed over the classes that are left, so that nothing
cancels: exact to rounding whatever the probabilities are, in memory for 2^k subsets of k elements.
"""

from __future__ import annotations

import torch
from torch import Tensor


def first_and_second(log_probs: Tensor, log_outside: Tensor) -> tuple[Tensor, Tensor]:
    r"""The probabilities of each first, and of each second, element of a set, given the set.

    The first element, given the set, is :math:`s` with :math:`p_s R(S, s)`, :math:`R` being the
    leave-one-out ratio of Kool, van Hoof, Welling (https://arxiv.org/abs/2002.06043). Where no class
    outside the set is possible, impossible classes in it have probability 0.

    Args:
        log_probs: the normalised log probabilities of the elements, shape ``(..., k)``.
        log_outside: the log of the total probability of all other classes, shape ``(...)``.

    Returns:
        The first, shape ``(..., k)``, and the second for each first, shape ``(..., k, k)``: 0 on the
        diagonal.
    """
    element = 1 << torch.arange(log_probs.shape[-1], device=log_probs.device)  # as a set of one
    log_rest = _log_rest(log_probs, log_outside, element)
    pairs = log_probs.unsqueeze(-2) + log_rest[..., element[:, None] | element]
    itself = element[:, None] == element
    pairs = torch.where(itself, -torch.inf, pairs)
    # Alone in its set, an element has no second.
    second = torch.where(pairs.isneginf(), 0.0, pairs.softmax(-1))
    return (log_probs + log_rest[..., element]).softmax(-1), second


def _log_rest(log_probs: Tensor, log_outside: Tensor, element: Tensor) -> Tensor:
    """``log P(S | A)``, shape ``(..., 2 ** k)``: bit s of a position is whether s is in A.

    But for A without an element, which nothing asks for.
    """
    k = len(element)
    drawn = torch.arange(2**k, device=element.device)
    possible = torch.where((drawn[:, None] & element) > 0, -torch.inf, log_probs.unsqueeze(-2))
    log_left = torch.logaddexp(possible.logsumexp(-1), log_outside.unsqueeze(-1))
    # A set of all possible classes is sure to be drawn, in whatever order.
    sure = log_outside.unsqueeze(-1).isneginf() | (drawn == 2**k - 1)
    log_rest = torch.where(sure, 0.0, -torch.inf).to(log_probs.dtype)
    for _ in range(k - 1):  # sets of k - 1 elements are right after the first turn, and so on
        step = (possible + log_rest[..., drawn[:, None] | element]).logsumexp(-1) - log_left
        log_rest = torch.where(sure, 0.0, step)
    return log_rest
