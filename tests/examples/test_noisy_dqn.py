"""Noisy networks: the loss is an ELBO, its gradient is unbiased by any noise, and runs are sound."""

from __future__ import annotations

import math
from types import ModuleType

import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import SVI
from torch.func import functional_call, grad, vmap

from ..compiled.steps import GraphSVI
from ..slow import one_in
from ..statistics import assert_mean


@pytest.fixture(scope="module")
def script(example) -> ModuleType:
    return example("noisy_dqn")


@pytest.fixture(scope="module")
def kinds(example) -> ModuleType:
    return example("noisy_dqn_agents")


@pytest.fixture
def data(kinds):
    """A batch of 64 transitions, and targets."""
    rows = torch.randn(64, 4), torch.randint(2, (64,)), torch.ones(64), torch.randn(64, 4)
    return kinds.Batch(*rows, torch.full((64,), 0.99)), torch.randn(64)


def contexts(script) -> dict:
    return {
        "shared draw": {},
        "Flipout": {"context": script.flipout},
        "local reparameterisation": {"context": script.local_reparameterization},
    }


def one(agents) -> dict[str, torch.Tensor]:
    return {name: value[0] for name, value in agents.parameters.items()}


def test_smoke(script, tmp_path, capsys):
    script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table.md", "table.csv", "curves.csv", "gradients.md", "gradients.csv", "picture.png"):
        assert (tmp_path / name).stat().st_size > 0
        assert f"wrote {tmp_path / name}" in printed
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["agent"].tolist() == list(script.AGENTS)
    assert table["final return, mean"].between(8, 500).all()
    gradients = pd.read_csv(tmp_path / "gradients.csv")
    assert len(gradients) == 3 * 4
    assert (gradients["variance, mu"] + gradients["variance, sigma"]).to_numpy() == pytest.approx(
        gradients["variance, all"].to_numpy()
    )
    assert gradients["relative_bias"].isna().equals(gradients["estimator"].str.contains("factorised"))


def test_the_td_loss_of_a_noisy_network_is_the_elbo(kinds, data):
    """Same noise, same gradient, in mu and in sigma."""
    agents = kinds.Variational(1)
    parameters = one(agents)
    agents.loss(parameters, *data)  # the first call looks at the program, too
    torch.manual_seed(1)
    of_elbo = grad(agents.loss)(parameters, *data)

    torch.manual_seed(1)  # the guide draws weight and bias, layer by layer
    sizes = [parameters[f"{i}.weight_mu"].shape for i in kinds.LAYERS]
    noise = [torch.cat([torch.randn(n, m), torch.randn(n)[:, None]], 1) for n, m in sizes]
    held = {f"{i}.noise": x for i, x in zip(kinds.LAYERS, noise, strict=True)}

    def td_loss(parameters):
        values = functional_call(agents.network, {**parameters, **held}, (data[0].states,))
        return kinds.td_loss(values, *data)

    of_td_loss = grad(td_loss)(parameters)
    assert set(of_elbo) == set(of_td_loss)
    for name, gradient in of_elbo.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, of_td_loss[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label", ["shared draw", "Flipout", "local reparameterisation"])
def test_the_gradient_is_that_of_the_expected_loss(script, kinds, data, label):
    """With noise on the last layer only, the expected loss is known."""
    agents = kinds.Variational(1, **contexts(script)[label])
    parameters = one(agents)
    last = {name: value for name, value in parameters.items() if name.startswith("4.")}
    last["4.weight_sigma"] = 0.1 + 0.1 * torch.rand(2, kinds.HIDDEN)
    rest = {
        name: torch.zeros_like(value) if name.endswith("sigma") else value
        for name, value in parameters.items()
        if name not in last
    }
    batch, targets = data
    hidden = functional_call(agents.network[:4].eval(), rest, (batch.states,))

    def expected_loss(last):
        mu, sigma = last["4.weight_mu"][batch.actions], last["4.weight_sigma"][batch.actions]
        mean = (hidden * mu).sum(-1) + last["4.bias_mu"][batch.actions]
        variance = (hidden * sigma).square().sum(-1) + last["4.bias_sigma"][batch.actions].square()
        return 0.5 * ((mean - targets).square() + variance).mean()

    def loss(last):
        return agents.loss({**rest, **last}, batch, targets)

    def flat(gradients):
        return torch.cat([gradients[name].flatten() for name in last])

    def draw(_):
        return flat(grad(loss)(last))

    with pyro.validation_enabled(False):
        draws = vmap(draw, randomness="different")(torch.arange(2000))
    assert_mean(draws, flat(grad(expected_loss)(last)))


def test_variance_falls_by_more_than_ten_and_twelve_at_first(script, kinds):
    """After 150 steps, that is: of a trained agent, Flipout's is as high as that of a shared draw."""
    run = script.train(kinds.Variational(1), 1, 150, snapshots_at={150})
    table = script.gradient_table(script.gradients(run, 300, 0)).set_index("estimator")
    times = table["times below shared draw"]
    assert times["shared draw"] == 1
    assert times["Flipout"] > 10
    assert times["local reparameterisation"] > 12
    # The noise of sigma is what a shared draw has most of, and local reparameterisation least.
    assert table["variance, sigma"]["shared draw"] > 5 * table["variance, mu"]["shared draw"]
    assert (
        table["variance, sigma"]["local reparameterisation"]
        < 0.2 * (table["variance, sigma"]["Flipout"])
    )


@pytest.mark.parametrize(("kind", "kappa"), [("Noisy", math.sqrt(2 / math.pi)), ("Variational", 1.0)])
def test_the_noise_to_act_with_is_that_of_the_layer(kinds, kind, kappa):
    agents = getattr(kinds, kind)(3)
    kept = {name: noise.clone() for name, noise in agents.noise.items()}
    agents.reset_noise(torch.tensor([True, False, True]))
    for name, noise in agents.noise.items():
        assert noise[1].equal(kept[name][1])
        assert (noise[0] != kept[name][0]).all()
        mu, sigma = (agents.parameters[f"{name}_{part}"] for part in ("mu", "sigma"))
        torch.testing.assert_close(agents.acting_weights()[name], mu + sigma * noise)
    weights, biases = [], []
    for _ in range(50):
        agents.reset_noise(torch.ones(3, dtype=torch.bool))
        # On the diagonal no two share a variable.
        weights.append(agents.noise["2.weight"].diagonal(dim1=1, dim2=2).flatten())
        biases.append(agents.noise["2.bias"].flatten())
    draws = torch.stack([torch.cat(weights), torch.cat(biases)], 1)
    exact = torch.tensor([0.0, 0.0, kappa**2, kappa])
    assert_mean(torch.cat([draws, draws.square()], 1), exact)


def test_batched_values_are_those_of_the_networks(kinds):
    agents = kinds.Agents(3)
    states = torch.randn(3, 5, 4)
    values = kinds.q_values(agents.parameters, states)
    for i in range(3):
        own = {name: value[i] for name, value in agents.parameters.items()}
        torch.testing.assert_close(values[i], functional_call(agents.network, own, (states[i],)))


def test_targets_are_the_target_networks_best(kinds, data):
    agents = kinds.Noisy(1)
    with torch.no_grad():  # the target network lags behind
        agents.parameters["4.bias_mu"] += 5 * torch.randn(1, 2)
    batch = kinds.Batch(*(x[None] for x in data[0]))
    batch.discounts[:, ::2] = 0.0
    target = {name: value[0] for name, value in agents.target.items()}
    values = functional_call(agents.network.eval(), target, (batch.next_states[0],)).amax(1)
    expected = torch.where(batch.discounts[0] == 0, 1.0, 1 + 0.99 * values)
    torch.testing.assert_close(agents.targets(batch)[0], expected)


def batches(kinds, count: int):
    while True:
        states, following = torch.randn(2, count, 8, 4)
        actions = torch.randint(2, (count, 8))
        yield kinds.Batch(states, actions, torch.ones(count, 8), following, torch.rand(count, 8))


def test_an_update_is_a_step_of_adam_by_gradients_of_limited_length(kinds, monkeypatch):
    monkeypatch.setattr(kinds, "MAX_NORM", 0.5)
    agents = kinds.Agents(3, SVI)
    before = {name: value.detach().clone() for name, value in agents.parameters.items()}
    given = next(batches(kinds, 3))
    targets = agents.targets(given)
    agents.update(iter([given]), 1, 1e-3)
    lengths = []
    for i in range(3):
        own = {name: value[i] for name, value in before.items()}
        gradients = grad(agents.loss)(own, kinds.Batch(*(x[i] for x in given)), targets[i])
        length = torch.cat([x.flatten() for x in gradients.values()]).norm()
        lengths.append(length)
        for name, gradient in gradients.items():
            clipped = gradient * min(1.0, 0.5 / length)
            # The first step of Adam.
            expected = own[name] - 1e-3 * clipped / (clipped.abs() + 1e-8)
            torch.testing.assert_close(agents.parameters[name][i], expected)
            first = agents.optim.optim_objs[agents.parameters[name]].state[agents.parameters[name]]
            torch.testing.assert_close(first["exp_avg"][i], 0.1 * clipped, rtol=1e-4, atol=1e-7)
    assert max(lengths) > 0.5


@pytest.mark.parametrize(
    "label", one_in(3, ["epsilon-greedy", "shared draw, factorised", "Flipout"], 1)
)
def test_a_graph_of_the_update_learns_alike(script, label):
    """In a whole run, with its learning rate that falls."""

    def trained(svi) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
        pyro.set_rng_seed(0)
        agents = script.AGENTS[label](2, svi)
        return agents, script.train(agents, 2, 80).curve

    (eager, curve), (graph, of_graph) = trained(SVI), trained(GraphSVI)
    assert of_graph.equals(curve)
    for name, value in eager.parameters.items():
        torch.testing.assert_close(graph.parameters[name], value, rtol=1e-4, atol=1e-6)
