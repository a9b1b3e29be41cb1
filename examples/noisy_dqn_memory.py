"""What agents remember, and the returns of a few steps that they learn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

COORDINATES, DISCOUNT = 4, 0.99
RETURN_STEPS = 3
"""Rewards that a return sums before the network's value of what comes next. With one alone, that value
travels back by a single step for each copy of the target network."""


class Transitions(NamedTuple):
    """Steps as they were taken, and whether each was the last of an episode, by a fall or cut off."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    fallen: Tensor
    last: Tensor


class Batch(NamedTuple):
    """Returns of a few steps; the value of the next state is discounted so much, to zero by a fall."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    discounts: Tensor


class Memory:
    """The transitions of each agent, in tensors that are allocated once."""

    def __init__(self, capacity: int, agents: int) -> None:
        flat = (agents, capacity + RETURN_STEPS)
        wide, flags = (*flat, COORDINATES), {"dtype": torch.bool}
        self.rows = Transitions(
            torch.zeros(wide),
            torch.zeros(flat, dtype=torch.long),
            torch.zeros(flat),
            torch.zeros(wide),
            torch.zeros(flat, **flags),
            torch.zeros(flat, **flags),
        )
        self.counts = torch.zeros(agents, dtype=torch.long)

    def add(self, who: Tensor, transitions: Transitions) -> None:
        """Keeps one transition of each agent for which ``who`` is true."""
        who = who.nonzero()[:, 0]
        for column, values in zip(self.rows, transitions, strict=True):
            column[who, self.counts[who]] = values[who].to(column.dtype)
        self.counts[who] += 1

    def batches(self, size: int) -> Iterator[Batch]:
        """Transitions of each agent, without end."""
        while True:
            yield self.draw(size)

    def draw(self, size: int) -> Batch:
        """So many transitions of each agent, at random."""
        return self.batch((torch.rand(len(self.counts), size) * self.counts[:, None]).long())

    def batch(self, index: Tensor) -> Batch:
        """The returns from these rows (agents, size) on, no further than to the end of the episode."""
        agents, steps = torch.arange(len(self.counts))[:, None], torch.arange(RETURN_STEPS)
        rows, window = self.rows, index[..., None] + steps
        stays = ~rows.last[agents[..., None], window[..., :-1]]
        taken = torch.cat([torch.ones_like(stays[..., :1]), stays], -1).cumprod(-1)
        taken = taken * (window < self.counts[:, None, None])
        rewards = (taken * DISCOUNT**steps * rows.rewards[agents[..., None], window]).sum(-1)
        length = taken.sum(-1)
        end = agents, index + length - 1
        discounts = DISCOUNT**length * ~rows.fallen[end]
        first = agents, index
        return Batch(rows.states[first], rows.actions[first], rewards, rows.next_states[end], discounts)
