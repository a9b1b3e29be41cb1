"""``DistributedDataParallel`` around a loss: the gradient, and what estimators learn."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pyro_reparam_ext as pre

from .processes import on_ranks
from .statistics import assert_mean

DATA = torch.linspace(-1.0, 2.0, 24).view(8, 3)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 3)

    def forward(self, x):
        with pyro.plate("rows", 8, subsample_size=len(x)):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(3, 2)

    def forward(self, x):
        with pyro.plate("rows", 8, subsample_size=len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


def half(rank):
    return DATA[4 * rank : 4 * rank + 4]


def loss_of(estimator):
    torch.manual_seed(0)
    return pre.TraceEstimator_ELBO(estimator)(Model(), Guide())


def gradients(loss, *args):
    """One gradient, as a vector."""
    loss.zero_grad()
    loss(*args).backward()
    return torch.cat([p.grad.reshape(-1) for p in loss.parameters()])


ESTIMATORS = {
    "DisARM": lambda: pre.DisARM(),
    "REBAR": lambda: pre.REBAR(),
    "ema": lambda: pre.ScoreFunction("ema"),
    "network": lambda: pre.ScoreFunction(nn.Linear(3, 1)),
}
STEPS = 18
"""Programs are compared with plain runs in calls 1, 4 and 16."""


def trained(rank):
    """Parameters after some steps; buffers as the next step has them; the gradients on the way."""
    found = {}
    for name, make in ESTIMATORS.items():
        loss = loss_of(make())
        torch.manual_seed(rank)
        with torch.no_grad():
            loss(half(rank))
        parallel = DistributedDataParallel(loss)
        optimiser = torch.optim.Adam(parallel.parameters(), lr=0.01)
        grads = []
        for _ in range(STEPS):
            grads.append(gradients(parallel, half(rank)))
            optimiser.step()
        with torch.no_grad():
            parallel(half(rank))  # copies the buffers of rank 0, and learns nothing
        found[name] = {**loss.state_dict(), "gradients": torch.stack(grads)}
    exact = DistributedDataParallel(loss_of(pre.Enumeration()))
    found["exact"] = gradients(exact, half(rank))
    return found


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(trained)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_all_ranks_hold_the_same(ranks, name):
    first, second = (found[name] for found in ranks)
    assert first.keys() == second.keys()
    for key, x in first.items():
        assert torch.equal(x, second[key]), key
    assert first["gradients"].isfinite().all()


def test_what_is_learned_has_moved(ranks):
    (first, _) = ranks
    learned = {name: [k for k in first[name] if k.startswith("states.")] for name in ESTIMATORS}
    assert {name: len(keys) for name, keys in learned.items()} == {
        "DisARM": 0,
        "REBAR": 2,
        "ema": 2,
        "network": 2,
    }
    fresh = {name: loss_of(make()) for name, make in ESTIMATORS.items()}
    for name, keys in learned.items():
        with torch.no_grad():
            fresh[name](DATA)
        before = fresh[name].state_dict()
        assert not any(
            torch.equal(first[name][key], before[key]) for key in keys if "weight" not in key
        )


def test_the_mean_of_exact_gradients_is_that_of_all_data(ranks):
    expected = gradients(loss_of(pre.Enumeration()), DATA)
    for found in ranks:
        torch.testing.assert_close(found["exact"], expected, rtol=1e-6, atol=1e-6)


def estimates(rank):
    loss = DistributedDataParallel(loss_of(pre.DisARM()))
    torch.manual_seed(rank)
    return torch.stack([gradients(loss, half(rank)) for _ in range(600)])


def test_the_mean_of_estimates_is_an_estimate():
    expected = gradients(loss_of(pre.Enumeration()), DATA)
    first, second = on_ranks(estimates)
    assert torch.equal(first, second)
    assert_mean(first, expected)


# -- what would be trained apart --------------------------------------------------------------------


class Mixed(Guide):
    """Takes a parameter from the store."""

    def forward(self, x):
        shift = pyro.param("shift", torch.zeros(2))
        with pyro.plate("rows", 8, subsample_size=len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x) + shift).to_event(1))


class Own(PyroModule):
    """Has one of its own."""

    def __init__(self):
        super().__init__()
        self.probs = PyroParam(torch.full((2,), 0.4), dist.constraints.unit_interval)

    def forward(self, x):
        with pyro.plate("rows", 8, subsample_size=len(x)):
            pyro.sample("z", dist.Bernoulli(self.probs).to_event(1))


@pytest.fixture
def alone(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["REBAR", "ema"])
def test_a_state_made_after_it_was_wrapped(alone, name):
    loss = DistributedDataParallel(loss_of(ESTIMATORS[name]()))
    for _ in range(2):
        with pytest.raises(pre.EstimatorError, match=r"know states\.z.*Call the loss once before"):
            loss(DATA)


def test_a_guide_that_is_made_after_it_was_wrapped(alone):
    def normal(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 8):
            pyro.sample("x", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=x)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(1, 1)
            self.loss = pre.TraceEstimator_ELBO()(normal, pyro.infer.autoguide.AutoNormal(normal))

        def forward(self, x):
            return self.loss(x)

    with pyro.settings.context(module_local_params=True):
        with pytest.raises(pre.EstimatorError, match=r"know guide\.locs\.z.*, guide\.scales\.z"):
            DistributedDataParallel(Holder())(DATA)


def test_parameters_of_a_larger_module(alone):
    """A loss of functions, whose parameters belong to what is wrapped."""

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.guide = Model(), Guide()
            self.loss = pre.TraceEstimator_ELBO(pre.DisARM())(
                lambda x: pyro.module("model", self.model)(x),
                lambda x: pyro.module("guide", self.guide)(x),
            )

        def forward(self, x):
            return self.loss(x)

    DistributedDataParallel(Holder())(DATA).backward()


def test_a_parameter_of_no_module(alone):
    loss = DistributedDataParallel(pre.TraceEstimator_ELBO(pre.DisARM())(Model(), Mixed()))
    with pytest.raises(pre.EstimatorError, match="the parameters shift, which are in Pyro's"):
        loss(DATA)


@pytest.mark.parametrize("local", [True, False])
def test_parameters_of_modules(alone, local):
    with pyro.settings.context(module_local_params=local):
        loss = DistributedDataParallel(pre.TraceEstimator_ELBO(pre.DisARM())(Model(), Own()))
        assert gradients(loss, DATA).abs().min() > 0
