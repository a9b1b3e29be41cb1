"""Classes as leaves of a balanced binary tree: each is a sequence of turns, to the left or the right.

The nodes lie on the last dim in the order of a heap, the root first: ``2 ** depth - 1`` of them, where
``2 ** depth`` is the number of classes, or the next power of two.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .relaxation import far, within


def node_logits(logits: Tensor) -> Tensor:
    """The log-odds of a turn to the right at each node, by the logits of classes; all are finite."""
    classes = logits.shape[-1]
    below = pad(within(logits), (0, 2 ** _depth(classes) - classes), value=-far(logits.dtype))
    levels: list[Tensor] = []
    while below.shape[-1] > 1:
        left, right = below[..., 0::2], below[..., 1::2]
        levels.insert(0, right - left)
        below = torch.logaddexp(left, right)
    return torch.cat(levels, -1)


def leaf(turns: Tensor) -> Tensor:
    """The class that turns lead to: False is to the left, True to the right."""
    place = torch.zeros_like(turns[..., 0], dtype=torch.long)  # on its level
    for level in range((turns.shape[-1] + 1).bit_length() - 1):
        node = (2**level - 1 + place).unsqueeze(-1)
        place = 2 * place + turns.gather(-1, node).squeeze(-1)
    return place


def path(place: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Which nodes lie above a class, and which turns it takes there: anything at other nodes."""
    depth, reached, turns = _depth(classes), [], []
    for level in range(depth):
        nodes = torch.arange(2**level, device=place.device)
        above = (place >> (depth - level)).unsqueeze(-1) == nodes
        reached.append(above)
        turn = ((place >> (depth - level - 1)) & 1).unsqueeze(-1) > 0
        turns.append(turn.expand_as(above))
    return torch.cat(reached, -1), torch.cat(turns, -1)


def _depth(classes: int) -> int:
    return max(1, (classes - 1).bit_length())
