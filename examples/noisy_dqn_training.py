"""The agents in their environments: acting, learning, and how good they become."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import gymnasium
import pandas as pd
import pyro
import torch
from cartpole import evaluate
from noisy_dqn_agents import ACTIONS, Agents, State
from noisy_dqn_memory import Batch, Memory, Transitions
from report import progress
from torch import Tensor

STEPS, LEARNING_RATE, BATCH_SIZE = 20_000, 2.3e-3, 64
FIRST_UPDATE, UPDATE_EVERY, UPDATES = 1000, 256, 64
"""Learning goes in rounds, in which the target network stands still: as in the settings for CartPole of
https://github.com/DLR-RM/rl-baselines3-zoo, with half the updates and returns of three steps."""
LAST_EPSILON, EPSILON_STEPS = 0.04, 8_000
EVALUATIONS, EPISODES = 10, 20
UNITS = torch.tensor([1.0, 1.0, 0.1, 1.0])
"""Of the coordinates of a state; the angle is never beyond 0.21."""


@dataclass
class Run:
    """Returns by step and agent; parameters of the first agent and a batch of it at chosen steps."""

    curve: pd.DataFrame
    seconds: float
    snapshots: dict[int, tuple[State, Batch, Tensor]] = field(default_factory=dict)


def returns(agents: Agents, count: int, seed: int = 10_000) -> Tensor:
    """Mean return of each agent over ``EPISODES`` episodes, greedy by its mean weights."""

    def policy(states: Tensor) -> Tensor:
        return agents.greedy((states / UNITS).view(count, EPISODES, -1)).flatten()

    return evaluate(policy, count * EPISODES, seed).view(count, EPISODES).mean(1)


@torch.no_grad()
def train(
    agents: Agents,
    count: int,
    steps: int,
    *,
    seed: int = 0,
    snapshots_at: Collection[int] = (),
    description: str = "training",
) -> Run:
    """Each agent takes ``steps`` steps in a CartPole-v1 of its own, and learns on the way.

    The first actions are random, and the learning rate falls to zero linearly. An episode that was cut
    off has not come to its end: only a fall makes the value of what comes next zero.
    """
    pyro.clear_param_store()
    memory = Memory(steps, count)
    environment = gymnasium.make_vec(
        "CartPole-v1", num_envs=count, vectorization_mode="vector_entry_point"
    )
    states = torch.from_numpy(environment.reset(seed=seed)[0]) / UNITS
    over = torch.zeros(count, dtype=torch.bool)
    rows, snapshots, seconds = [], {}, 0.0
    evaluate_every, first_update = max(1, steps // EVALUATIONS), min(FIRST_UPDATE, steps // 4)
    update_every = min(UPDATE_EVERY, steps // 8)
    updates, batches = UPDATES * update_every // UPDATE_EVERY, memory.batches(BATCH_SIZE)
    for step in progress(range(1, steps + 1), description):
        start = time.process_time()
        if step <= first_update:
            actions = torch.randint(ACTIONS, (count,))
        else:
            actions = agents.actions(states, max(LAST_EPSILON, 1 - step / EPSILON_STEPS))
        after = environment.step(actions.numpy())[:4]
        following, rewards, fallen, cut = map(torch.from_numpy, after)
        following = following / UNITS
        # The step after the last of an episode begins the next one, whatever the action.
        memory.add(~over, Transitions(states, actions, rewards, following, fallen, fallen | cut))
        if over.any():
            agents.reset_noise(over)
        states, over = following, fallen | cut
        if step >= first_update and step % update_every == 0:
            agents.synchronise()
            with torch.enable_grad():
                agents.update(batches, updates, LEARNING_RATE * (1 - step / steps))
        seconds += time.process_time() - start
        if step in snapshots_at:
            batch = memory.draw(BATCH_SIZE)
            targets = agents.targets(batch)
            one = {name: value[0].detach().clone() for name, value in agents.parameters.items()}
            snapshots[step] = one, Batch(*(column[0] for column in batch)), targets[0]
        if step % evaluate_every == 0:
            for agent, value in enumerate(returns(agents, count).tolist()):
                rows.append((step, agent, value))
    environment.close()
    return Run(pd.DataFrame(rows, columns=["step", "agent", "return"]), seconds, snapshots)
