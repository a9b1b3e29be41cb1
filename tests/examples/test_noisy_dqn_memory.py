"""The memory of the noisy networks' example: what is kept, and the returns that are drawn from it."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def memories(example) -> ModuleType:
    return example("noisy_dqn_memory")


def test_returns_end_with_their_episode(memories):
    """Of three steps by hand: all of them, up to a fall, up to a cut, up to the newest."""
    memory, who = memories.Memory(7, 1), torch.ones(1, dtype=torch.bool)
    for i in range(7):
        state = torch.full((1, 4), float(i))
        fell, cut = torch.tensor([i == 3]), torch.tensor([i == 5])
        step = state, torch.tensor([i % 2]), torch.tensor([10.0**i]), state + 100, fell, fell | cut
        memory.add(who, memories.Transitions(*step))
    batch = memory.batch(torch.arange(7)[None])
    g = memories.DISCOUNT
    r = [10.0**i for i in range(7)]
    rewards = [
        r[0] + g * r[1] + g**2 * r[2],
        r[1] + g * r[2] + g**2 * r[3],
        r[2] + g * r[3],
        r[3],
        r[4] + g * r[5],
        r[5],
        r[6],
    ]
    torch.testing.assert_close(batch.rewards[0], torch.tensor(rewards))
    assert batch.next_states[0, :, 0].tolist() == [102, 103, 103, 103, 105, 105, 106]
    torch.testing.assert_close(batch.discounts[0], torch.tensor([g**3, 0, 0, 0, g**2, g, g]))
    assert batch.states[0, :, 0].tolist() == list(range(7))
    assert batch.actions[0].tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_no_transition_leads_from_one_episode_into_the_next(example, memories, monkeypatch):
    training, cartpole = example("noisy_dqn_training"), example("cartpole")
    kinds, kept = example("noisy_dqn_agents"), []

    class Kept(memories.Memory):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            kept.append(self)

    monkeypatch.setattr(training, "Memory", Kept)
    training.train(kinds.Agents(2), 2, 200)
    (memory,) = kept
    falls = 0
    for agent, count in enumerate(memory.counts.tolist()):
        batch = memories.Transitions(*(column[agent, :count] for column in memory.rows))
        before, after = batch.states * training.UNITS, batch.next_states * training.UNITS
        torch.testing.assert_close(after, cartpole.move(before, batch.actions), rtol=1e-4, atol=1e-5)
        assert batch.fallen.equal(~cartpole.upright(after))
        assert batch.last.equal(batch.fallen)  # 200 steps are too few to be cut off
        assert (batch.rewards == 1).all()
        falls += int(batch.fallen.sum())
        episodes = 200 - count  # one step of each begins it
        assert 0 <= int(batch.fallen.sum()) - episodes <= 1
    assert falls > 4
