"""Sequences of choices drawn without replacement, where there are too many to write them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..noise import gumbel_like

FREE = -1
"""Stands for a choice that is yet to be drawn."""


class Others(NamedTuple):
    """Values besides a first one: different from it and from each other, in the order of their draw.

    - ``values``: stacked on the leftmost dim; where there are no more, one of those before.
    - ``possible``: where there is one: shape ``(count, *batch)``.
    - ``log_outside``: the log of the total probability of all that are left, shape ``batch``.
    """

    values: Tensor
    possible: Tensor
    log_outside: Tensor


def other_sequences(
    first: Tensor, leaving: Callable[[Tensor], Tensor], complete: Callable[[Tensor], Tensor], count: int
) -> Others:
    """Sequences drawn one after another, each from the law without those before, with it normalised.

    Sequences are the leaves of a tree, whose forks are the steps. Those that are left, once some are
    drawn, make up the subtrees that leave the paths of these: one of them is chosen by its probability,
    and completed by the law itself. So every probability is a product, or a sum of positive terms:
    nothing cancels, however near to 1 that of the first is. The law is that of a stochastic beam search
    (Kool, van Hoof, Welling, 2019, Stochastic Beams and Where to Find Them,
    https://arxiv.org/abs/1903.06059), by the tree of Shi, Bieber, Sutton, 2020, Incremental Sampling
    Without Replacement for Sequence Models, https://arxiv.org/abs/2002.09067, in ``count`` steps.

    Args:
        first: the number of the choice at each step, shape ``(*batch, n)``.
        leaving: of sequences, the log probability to follow one up to a step and to choose something
            else there, by its number: shape ``(*batch, n, choices)``; minus infinity for its own choice
            and for what can't be.
        complete: of sequences that end with :data:`FREE` choices, those with these drawn.
        count: how many are drawn.
    """
    n = first.shape[-1]
    steps = torch.arange(n, device=first.device)
    left = leaving(first)  # shape: (*batch, forks, choices), with the forks on the paths of all so far
    by_fork = left.logsumexp(-1)
    drawn, possible = [first], []
    for _ in range(count):
        fork = _drawn(by_fork)
        row = fork.unsqueeze(-1).expand(*fork.shape, left.shape[-1])
        here = left.gather(-2, row)
        choice = _drawn(here.squeeze(-2))
        is_one = by_fork.gather(-1, fork) > -torch.inf
        path = (fork // n).unsqueeze(-1).expand(*fork.shape, n)
        path = torch.stack(drawn, -2).gather(-2, path).squeeze(-2)
        step = torch.where(is_one, fork % n, n)  # where nothing is left, the path itself
        begun = torch.where(steps < step, path, FREE)
        drawn.append(complete(torch.where(steps == step, choice, begun)))
        possible.append(is_one.squeeze(-1))
        here = here.scatter(-1, choice.unsqueeze(-1), -torch.inf)
        below = torch.where((steps > step).unsqueeze(-1), leaving(drawn[-1]), -torch.inf)
        left = torch.cat([left.scatter(-2, row, here), below], -2)
        by_fork = torch.cat([by_fork.scatter(-1, fork, here.logsumexp(-1)), below.logsumexp(-1)], -1)
    return Others(torch.stack(drawn[1:]), torch.stack(possible), by_fork.logsumexp(-1))


def _drawn(log_probs: Tensor) -> Tensor:
    """A number with these probabilities, up to a factor; shape ``(*batch, 1)``."""
    return (log_probs + gumbel_like(log_probs)).argmax(-1, keepdim=True)
