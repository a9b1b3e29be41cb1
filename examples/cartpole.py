"""CartPole: the environment of gymnasium to be judged in, and its equations in torch to learn in.

The dynamics are those of Barto, Sutton and Anderson, 1983, Neuronlike adaptive elements that can solve
difficult learning control problems, https://doi.org/10.1109/TSMC.1983.6313077, as gymnasium integrates
them: one Euler step of 0.02 s. In torch a whole batch of carts moves at once, under ``vmap`` too, and
the next state is differentiable in the push.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import gymnasium
import torch
from torch import Tensor

GRAVITY, CART, POLE, HALF_LENGTH, PUSH, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
MAX_POSITION, MAX_ANGLE = 2.4, math.radians(12)
MAX_START = 0.05
"""Every coordinate of the first state is uniform between minus this and this."""
MAX_STEPS = 500


def move(state: Tensor, action: Tensor) -> Tensor:
    """The state 0.02 s later.

    Args:
        state: position (m), velocity, angle (rad), angular velocity on the last dim.
        action: 0 pushes to the left, 1 to the right; in between, with the force in between.
    """
    position, velocity, angle, spin = state.unbind(-1)
    force, cos, sin = PUSH * (2 * action - 1), angle.cos(), angle.sin()
    mass = CART + POLE
    free = (force + POLE * HALF_LENGTH * spin**2 * sin) / mass
    turn = (GRAVITY * sin - cos * free) / (HALF_LENGTH * (4 / 3 - POLE / mass * cos**2))
    push = free - POLE * HALF_LENGTH / mass * turn * cos
    rates = torch.stack([velocity, push.expand_as(velocity), spin, turn.expand_as(spin)], -1)
    return state + SECONDS * rates


def upright(state: Tensor) -> Tensor:
    """Whether the pole still stands and the cart is still on its track."""
    return (state[..., 0].abs() <= MAX_POSITION) & (state[..., 2].abs() <= MAX_ANGLE)


def evaluate(policy: Callable[[Tensor], Tensor], episodes: int = 32, seed: int = 0) -> Tensor:
    """The returns of ``policy`` (states to actions 0 or 1) in ``episodes`` of CartPole-v1, 0 to 500."""
    environment = gymnasium.make_vec(
        "CartPole-v1", num_envs=episodes, vectorization_mode="vector_entry_point"
    )
    states, _ = environment.reset(seed=seed)
    returns, running = torch.zeros(episodes), torch.ones(episodes, dtype=torch.bool)
    with torch.no_grad():
        while running.any():
            actions = policy(torch.from_numpy(states)).long().numpy()
            states, rewards, fallen, out_of_time, _ = environment.step(actions)
            returns += running * torch.from_numpy(rewards)
            running &= ~torch.from_numpy(fallen | out_of_time)
    environment.close()
    return returns
