"""Where Trace_ELBO works: autoguides over discrete sites, Bayesian networks, distributed training."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiscreteParallel, AutoGuideList, AutoNormal
from pyro.nn import PyroModule, PyroSample
from pyro.optim import Adam
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

import pyro_reparam_ext as pre

DATA = torch.tensor([-3.0, -2.9, 0.1, 0.2, 3.0, 3.1])


def mixture(x):
    loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 5.0).to_event(1))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
        # Values of k lie on dims left of the plate.
        pyro.sample("x", dist.Normal(loc.expand(*k.shape[:-1], 3).gather(-1, k), 1.0), obs=x)


@pytest.mark.parametrize("estimator", [pre.LocalExpectation(), pre.Enumeration()], ids=repr)
def test_autoguide_over_discrete_and_continuous_sites(estimator):
    guide = AutoGuideList(mixture)
    guide.append(AutoNormal(poutine.block(mixture, hide=["k", "x"])))
    guide.append(AutoDiscreteParallel(poutine.block(mixture, expose=["k"])))
    elbo = pre.TraceEstimator_ELBO({"k": estimator})
    svi = SVI(mixture, guide, Adam({"lr": 0.05}), elbo)
    losses = torch.tensor([svi.step(DATA) for _ in range(300)])
    assert losses[-50:].mean() < losses[:50].mean() - 5


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](2, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_bayesian_regression_is_that_of_trace_elbo(num_particles):
    x = torch.randn(20, 2)
    y = x @ torch.tensor([1.0, -2.0])
    losses = []
    for elbo in (pre.TraceEstimator_ELBO, Trace_ELBO):
        pyro.clear_param_store()
        torch.manual_seed(0)
        model = Regression()
        loss = elbo(num_particles=num_particles, vectorize_particles=False)
        svi = SVI(model, AutoNormal(model), Adam({"lr": 0.02}), loss)
        losses.append([svi.step(x, y) for _ in range(20)])
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-4, atol=1e-3)


class Encoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(2, 4)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.network(x)).to_event(1))


class Decoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(4, 2)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1))
            pyro.sample("x", dist.Normal(self.network(z), 1.0).to_event(1), obs=x)


def test_distributed_data_parallel(tmp_path):
    init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with pyro.settings.context(module_local_params=True):
            x = torch.randn(20, 2)
            loss = pre.TraceEstimator_ELBO(pre.REBAR())(Decoder(), Encoder())
            loss(x)
            distributed = DistributedDataParallel(loss)
            before = {name: p.detach().clone() for name, p in distributed.named_parameters()}
            optimizer = torch.optim.Adam(distributed.parameters(), lr=0.01)
            for _ in range(3):
                optimizer.zero_grad()
                distributed(x).backward()
                optimizer.step()
            assert len(before) == 6
            for name, parameter in distributed.named_parameters():
                assert not torch.equal(parameter, before[name]), name
    finally:
        destroy_process_group()
