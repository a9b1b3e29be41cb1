"""Policy gradients: the simulator is gymnasium's, the gradients are right, and so are the claims."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from types import ModuleType

import gymnasium
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.ops.provenance import get_provenance, track_provenance

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI
from ..slow import one_in, slow
from ..statistics import assert_mean

FALLING = torch.tensor([0.0, 0.0, 0.2, 0.3])
"""Whether the pole falls in two steps from here, or later, depends on the actions."""
STEPS = 6


@pytest.fixture(scope="module")
def cartpole(example) -> ModuleType:
    return example("cartpole")


@pytest.fixture(scope="module")
def control(example) -> ModuleType:
    return example("policy_gradient_programs")


@pytest.fixture
def dear_entropy(control, monkeypatch) -> None:
    """The entropy weighs as much as a reward."""
    monkeypatch.setattr(control, "ENTROPY", 1.0)


@pytest.fixture(scope="module")
def policy_gradient(example) -> ModuleType:
    return example("policy_gradient")


@pytest.fixture
def policy(control) -> torch.nn.Module:
    pyro.set_rng_seed(0)
    policy = control.Policy(hidden=3)
    with torch.no_grad():  # far from a coin, so that what it does after the fall would cost
        for p in policy.parameters():
            p.mul_(1.5)
    return policy


@pytest.fixture
def task(control):
    return control.Task(horizon=STEPS, start=dist.Delta(FALLING, event_dim=1))


def test_the_simulator_moves_as_gymnasium_does(cartpole):
    environment = gymnasium.make("CartPole-v1").unwrapped
    generator = torch.Generator().manual_seed(0)
    for episode in range(5):
        environment.reset(seed=episode)
        state, fallen = torch.tensor(environment.state), False
        while not fallen:
            action = torch.randint(2, (), generator=generator)
            _, _, fallen, _, _ = environment.step(int(action))
            state = cartpole.move(state, action.double())
            np.testing.assert_allclose(state.numpy(), environment.state, rtol=1e-12, atol=1e-14)
            assert fallen == (not cartpole.upright(state))


@pytest.mark.parametrize(
    ("weights", "low", "high"), [((0, 0, 0, 0), 8, 11), ((0, 0.1, 1, 1), 300, 500)]
)
def test_evaluate(cartpole, weights, low, high):
    returns = cartpole.evaluate(lambda state: state @ torch.tensor(weights, dtype=torch.float32) > 0)
    assert returns.shape == (32,)
    assert low <= returns.min() and returns.max() <= high


def exact_gradient(control, policy, task) -> torch.Tensor:
    """Of the loss, by all sequences of actions."""
    total = torch.zeros(())
    for actions in itertools.product((0.0, 1.0), repeat=STEPS):
        state, log_q, reward, log_ratio = FALLING, 0.0, 0.0, 0.0
        for action in map(torch.tensor, actions):
            log_prob = dist.Bernoulli(logits=policy(state)).log_prob(action)
            log_q = log_q + log_prob
            if task.live(state):
                log_ratio = log_ratio + log_prob - torch.tensor(0.5).log()
            state = task.move(state, action)
            reward = reward + task.reward(state)
        total = total - log_q.exp() * (reward - control.ENTROPY * log_ratio)
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(policy.parameters()))])


def gradients(program, estimator, particles: int, draws: int) -> torch.Tensor:
    elbo = pre.TraceEstimator_ELBO(
        lambda site: None if site["name"] == "start" else estimator,
        num_particles=particles,
        max_plate_nesting=1,
    )
    study = pre.gradient_study(
        program.model,
        program.guide,
        estimators={"": elbo},
        num_draws=draws,
        warmup=5,
        progress=False,
        params=lambda name: name.startswith("policy"),
    )
    kept = study.results[""].kept
    return torch.cat([torch.from_numpy(kept[name]).flatten(1) for name in study.names], 1)


def test_a_rollout_depends_on_what_its_start_depends_on(control, policy, task):
    start = track_provenance(FALLING, frozenset(["before"]))
    rows = control.Rollout(policy, start, 2, task).sample()
    assert get_provenance(rows) == {"before"}


@pytest.mark.usefixtures("dear_entropy")
@pytest.mark.parametrize("steps", [1, 3, STEPS])
@pytest.mark.parametrize("kind", one_in(2, ["none", "ema", "value", "leave-one-out"], 1))
def test_the_score_function_is_unbiased(control, policy, task, steps, kind):
    estimator = {
        "none": lambda: pre.ScoreFunction(),
        "ema": lambda: pre.ScoreFunction(baseline="ema"),
        "value": lambda: pre.ScoreFunction(baseline=control.Value(3)),
        "leave-one-out": pre.LeaveOneOut,
    }[kind]()
    program = control.RolloutProgram(policy, task, steps)
    draws = gradients(program, estimator, particles=4, draws=1500)
    assert_mean(draws, exact_gradient(control, policy, task))


@pytest.mark.usefixtures("dear_entropy")
def test_single_actions_are_unbiased_too(control, policy, task):
    # After the end the policy is a coin: its parameters have no part in what follows.
    program = control.ActionProgram(policy, task)
    draws = gradients(program, pre.LeaveOneOut(), particles=4, draws=1500)
    assert_mean(draws, exact_gradient(control, policy, task))


def test_rewards_to_go_and_baselines_take_variance_away(control, policy):
    task = control.Task(horizon=40)
    variance = {
        (steps, kind): gradients(control.RolloutProgram(policy, task, steps), kind(), 8, 200)
        .var(0)
        .sum()
        for steps, kind in [(40, pre.ScoreFunction), (10, pre.ScoreFunction), (10, pre.LeaveOneOut)]
    }
    whole, to_go, baseline = variance.values()
    assert 1.3 * to_go < whole
    assert 1.3 * baseline < to_go


def same_seed_gradient(program, hidden: bool) -> torch.Tensor:
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    model = program.model
    if hidden:
        model = poutine.block(model, hide_fn=lambda site: site["name"].startswith("reward"))
    elbo = pre.TraceEstimator_ELBO(
        lambda site: None if site["name"] == "start" else pre.StraightThrough(), max_plate_nesting=0
    )
    parameters = list(program.policy.parameters())
    loss = elbo.differentiable_loss(model, program.guide)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def test_straight_through_sees_a_smooth_reward_only(control, policy):
    for smooth in (False, True):
        program = control.ActionProgram(policy, control.Task(horizon=20, smooth=smooth))
        lost = nullcontext() if smooth else pytest.warns(UserWarning, match="without a gradient")
        with lost:
            with_reward = same_seed_gradient(program, hidden=False)
        without = same_seed_gradient(program, hidden=True)
        assert torch.equal(with_reward, without) == (not smooth)


def test_steps_are_counted_until_the_fall(control, policy_gradient):
    counter = policy_gradient.StepCounter(control.Task(horizon=100))
    start = dist.Delta(torch.tensor([0.0, 0.0, 0.2, 1.0]), event_dim=1)  # out of bounds in one step
    program = control.RolloutProgram(control.Policy(), control.Task(horizon=100, start=start), 50)
    counter(program.guide)()
    assert counter.steps == 1


@slow
def test_training_raises_the_return(policy_gradient):
    method = policy_gradient.METHODS["learned value"]
    run = policy_gradient.train(method, seed=0, updates=20, every=20)
    before, after = run.rows
    assert after["return"] > 3 * before["return"]
    assert after["steps"] > before["steps"] == 0


def test_smoke(policy_gradient, tmp_path, capsys):
    policy_gradient.main(policy_gradient.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("picture.png", "returns.md", "rollouts.md", "actions.md", "runs.csv"):
        assert f"wrote {tmp_path / name}" in printed
        assert (tmp_path / name).stat().st_size > 0
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert set(runs["method"]) == set(policy_gradient.METHODS)
    assert runs["return"].between(8, 500).all()
    for name in ("rollouts", "actions"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert np.isfinite(table["relative_variance"]).all()
        assert set(table["policy"]) == {"untrained"}


@pytest.mark.parametrize(
    "label", one_in(3, ["learned value", "leave-one-out", "straight-through, smooth"])
)
def test_a_graph_of_the_step_trains_alike(policy_gradient, label):
    """With the simulator as one operation of it, or differentiated, and with the count of its steps."""
    method = policy_gradient.METHODS[label].shortened(4)
    runs = [policy_gradient.train(method, 0, 3, keep=(3,), svi=svi) for svi in (SVI, GraphSVI)]
    assert [run.rows[-1]["steps"] for run in runs] == [3 * 16 * 4] * 2
    eager, graph = (run.policies[3].state_dict() for run in runs)
    for name, value in eager.items():
        torch.testing.assert_close(graph[name], value, rtol=1e-4, atol=1e-6)


def test_the_simulator_follows_the_policy(control, policy, task):
    """Each action is 1 where its noise is below the policy's probability at its state."""
    noise = torch.rand(STEPS, 10)
    rows = control.play(FALLING.expand(10, 4), noise, task.smooth, list(policy.parameters()))
    states, actions = rows[..., :4], rows[..., 4]
    assert actions.equal((noise.T < policy(states).sigmoid()).float())
    assert 0 < actions.mean() < 1
    torch.testing.assert_close(states[:, 0], FALLING.expand(10, 4))
    torch.testing.assert_close(states[:, 1:], task.move(states, actions)[:, :-1])


@pytest.mark.parametrize("dims", [(0, None), (None, 2), (1, 0)])
def test_simulators_side_by_side(control, policy, task, dims):
    """Each has its own start and noise, or that of all."""
    starts, noises = FALLING + 0.05 * torch.randn(3, 2, 4), torch.rand(3, STEPS, 2)
    parameters = [p.detach() for p in policy.parameters()]

    def play(start: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return control.play(start, noise, task.smooth, parameters)

    def given(x: torch.Tensor, dim: int | None) -> torch.Tensor:
        return x[0] if dim is None else x.movedim(0, dim)

    rows = torch.vmap(play, dims)(given(starts, dims[0]), given(noises, dims[1]))
    for i in range(3):
        start, noise = (
            x[0 if dim is None else i] for x, dim in zip((starts, noises), dims, strict=True)
        )
        torch.testing.assert_close(rows[i], play(start, noise))
