"""Control as inference on CartPole: the policy is a guide, its actions are what the guide samples.

The model is the same episode under a player who tosses a coin, with one ``pyro.factor`` of rewards; the
negative of the loss of a guide with policy :math:`\\pi` is then, for every episode,

.. math::
    E_\\pi\\Big[\\sum_t r(s_t) - \\alpha \\log\\frac{\\pi(a_t | s_t)}{1/2}\\Big],

the expected return and, weighted by :math:`\\alpha`, the entropy of the policy (Levine, 2018,
Reinforcement Learning and Control as Probabilistic Inference, https://arxiv.org/abs/1805.00909). The
dynamics are the same in both and cancel. An episode is a particle of the ELBO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyro
import pyro.distributions as dist
import torch
from cartpole import MAX_ANGLE, MAX_POSITION, MAX_START, move, upright
from pyro import poutine
from pyro.distributions import TorchDistribution, constraints
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.nn.functional import linear

ENTROPY = 0.1
"""Weight of the policy's entropy, where a step is worth 1."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of the policy.

    ``smooth`` False: a reward of 1 for every step after which the pole stands; once it has fallen,
    nothing moves. True: no end, and a reward in (0, 1], smooth in angle and position.
    """

    horizon: int
    smooth: bool = False
    start: TorchDistribution = field(
        default_factory=lambda: dist.Uniform(-MAX_START * torch.ones(4), MAX_START).to_event(1)
    )

    def live(self, state: Tensor) -> Tensor:
        return torch.ones_like(state[..., 0], dtype=torch.bool) if self.smooth else upright(state)

    def move(self, state: Tensor, action: Tensor) -> Tensor:
        return torch.where(self.live(state)[..., None], move(state, action), state)

    def reward(self, state: Tensor) -> Tensor:
        if self.smooth:
            return torch.exp(-(state[..., 0] ** 2 + (2 * state[..., 2] / MAX_ANGLE) ** 2) / 2)
        return upright(state).to(state.dtype)


def logit(state: Tensor, weight: Tensor, bias: Tensor, outer: Tensor, outer_bias: Tensor) -> Tensor:
    """Of a push to the right, by a network of one hidden layer."""
    return linear(linear(state, weight, bias).tanh(), outer, outer_bias).squeeze(-1)


class Policy(nn.Module):
    """The logit of a push to the right, from the state."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, state: Tensor) -> Tensor:
        return logit(state, *self.parameters())

    def act(self, state: Tensor) -> Tensor:
        """A random action of the policy."""
        return torch.bernoulli(self(state).sigmoid())


def coin(state: Tensor) -> Tensor:
    """The logit of the prior: both actions alike, whatever the state."""
    return torch.zeros_like(state[..., 0])


class Value(nn.Module):
    """The cost that is expected from a state with ``left`` steps to go: a learned baseline."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, state: Tensor, left: Tensor) -> Tensor:
        scaled = state / state.new_tensor([MAX_POSITION, 1.0, MAX_ANGLE, 1.0])
        features = torch.cat([scaled, (left / 100).expand(*state.shape[:-1], 1)], -1)
        return -left * upright(state) * self.net(features).squeeze(-1)


@torch.library.custom_op("cartpole::play", mutates_args=())
def play(start: Tensor, noise: Tensor, smooth: bool, policy: list[Tensor]) -> Tensor:
    """Rows of state and action, from a start on: the simulator, as one operation of a graph.

    ``noise``, uniform from 0 to 1, decides on the actions; it has a row for each step.
    """
    state, task, rows = start, Task(len(noise), smooth), []
    for uniform in noise:
        action = (uniform < logit(state, *policy).sigmoid()).to(state.dtype)
        rows.append(torch.cat([state, action[..., None]], -1))
        state = task.move(state, action)
    return torch.stack(rows, -2)


@play.register_fake
def _(start: Tensor, noise: Tensor, smooth: bool, policy: list[Tensor]) -> Tensor:
    return start.new_empty((*start.shape[:-1], len(noise), start.shape[-1] + 1))


@play.register_vmap
def _(info, in_dims, start: Tensor, noise: Tensor, smooth: bool, policy: list[Tensor]):
    """All at once, for one policy: the starts on their leftmost dim, the noise of a step on its."""
    if any(dim is not None for dim in in_dims[3]):
        raise NotImplementedError("cartpole::play: expected one policy under vmap, was given several.")
    start, noise = (
        x.unsqueeze(to).expand(*x.shape[:to], info.batch_size, *x.shape[to:])
        if dim is None
        else x.movedim(dim, to)
        for x, dim, to in ((start, in_dims[0], 0), (noise, in_dims[1], 1))
    )
    return play(start, noise, smooth, policy), 0


class Rollout(TorchDistribution):
    """Some steps of an episode as one sample: rows of state and action, ``(steps, 5)``.

    The simulator runs inside ``sample`` and may be any; its density is that of the actions.
    """

    arg_constraints = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = False

    def __init__(self, policy: Callable, start: Tensor, steps: int, task: Task) -> None:
        self.policy, self.start, self.steps, self.task = policy, start, steps, task
        super().__init__(start.shape[:-1], torch.Size((steps, 5)), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> Rollout:
        return Rollout(self.policy, self.start.expand(*batch_shape, 4), self.steps, self.task)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        start = detach_provenance(self.start).expand(*sample_shape, *self.start.shape)
        noise = torch.rand(self.steps, *start.shape[:-1])
        rows = play(start, noise, self.task.smooth, [p.detach() for p in self.policy.parameters()])
        # What a simulator returns depends on where it started, which it does not say by itself.
        return track_provenance(rows, get_provenance(self.start))

    def log_prob(self, value: Tensor) -> Tensor:
        state, action = value[..., :4], value[..., 4]
        log_prob = dist.Bernoulli(logits=self.policy(state)).log_prob(action)
        return (log_prob * self.task.live(state)).sum(-1)


class RolloutProgram:
    """Guide and model with a sample site for every ``steps`` steps.

    A site is credited with the rewards of its own steps and of all later ones: with ``steps`` the whole
    horizon, for every action with the return of the episode.
    """

    def __init__(self, policy: Policy, task: Task, steps: int) -> None:
        self.policy, self.task, self.steps = policy, task, steps

    def guide(self) -> None:
        pyro.module("policy", self.policy)
        state = pyro.sample("start", self.task.start)
        for time in range(0, self.task.horizon, self.steps):
            inputs = (state, torch.tensor(float(self.task.horizon - time)))
            with poutine.scale(scale=ENTROPY):
                rollout = Rollout(self.policy, state, self.steps, self.task)
                rows = pyro.sample(f"rollout_{time}", rollout, infer={"baseline_input": inputs})
            state = self.task.move(rows[..., -1, :4], rows[..., -1, 4])

    def model(self) -> None:
        state = pyro.sample("start", self.task.start)
        for time in range(0, self.task.horizon, self.steps):
            with poutine.scale(scale=ENTROPY):
                rollout = Rollout(coin, state, self.steps, self.task)
                rows = pyro.sample(f"rollout_{time}", rollout)
            state = self.task.move(rows[..., -1, :4], rows[..., -1, 4])
            rewards = self.task.reward(self.task.move(rows[..., :4], rows[..., 4]))
            pyro.factor(f"reward_{time}", rewards.sum(-1))


class ActionProgram:
    """Guide and model with a Bernoulli site for every action, which may then be relaxed."""

    def __init__(self, policy: Policy, task: Task) -> None:
        self.policy, self.task = policy, task

    def guide(self) -> None:
        pyro.module("policy", self.policy)
        state = pyro.sample("start", self.task.start)
        for time in range(self.task.horizon):
            logits = self.policy(state) * self.task.live(state)  # after the end a coin, at no cost
            with poutine.scale(scale=ENTROPY):
                action = pyro.sample(f"action_{time}", dist.Bernoulli(logits=logits))
            state = self.task.move(state, action)

    def model(self) -> None:
        state = pyro.sample("start", self.task.start)
        for time in range(self.task.horizon):
            with poutine.scale(scale=ENTROPY):
                action = pyro.sample(f"action_{time}", dist.Bernoulli(logits=coin(state)))
            state = self.task.move(state, action)
            pyro.factor(f"reward_{time}", self.task.reward(state))


class StepCounter(Messenger):
    """Counts the steps that the episodes of a guide took in the simulator.

    A count in Python would be a constant of a compiled step; a buffer of a module is kept.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.kept = task, nn.Module()
        self.kept.register_buffer("count", torch.zeros((), dtype=torch.long))

    @property
    def steps(self) -> int:
        return int(self.kept.count)

    def _pyro_post_sample(self, message: dict) -> None:
        value = detach_provenance(message["value"])
        if message["name"].startswith("rollout"):
            self.kept.count += self.task.live(value[..., :4]).sum()
        elif message["name"].startswith("action"):
            self.kept.count += value.numel()
