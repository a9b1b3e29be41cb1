"""A captured step is the eager one: every estimator, distribution, autoguide, optimiser and context."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer import autoguide as guides
from pyro.nn import PyroModule, PyroSample
from pyro.optim import SGD, Adam, AdamW, ClippedAdam, ExponentialLR, RMSprop
from torch import nn

import pyro_reparam_ext as pre

from ..layouts import LAYOUTS
from ..registry import REGISTRY, layout_of
from ..slow import one_in
from .steps import assert_same_steps

TIGHT = 1e-9
"""In double precision, as the layouts are."""
SINGLE = ("REBAR", "RELAX", "Combine-slopes")
"""Estimators that learn something in single precision."""


def cases():
    """Each estimator, in layouts and with families that take turns."""
    found = []
    for turn, (label, entry) in enumerate(REGISTRY.items()):
        layouts = [x for x in LAYOUTS if LAYOUTS[x].inside or not entry.inside_only]
        family = entry.families[turn % min(len(entry.families), 4)]
        found.append((label, family, layouts[3 * turn % len(layouts)]))
    return found


@pytest.mark.parametrize(("label", "family", "layout"), one_in(3, cases()))
def test_every_estimator(label, family, layout):
    def programs():
        program = layout_of(layout, family)
        entry = REGISTRY[label]
        estimators = {site: entry.make() for site in program.sites}
        elbo = pre.TraceEstimator_ELBO(estimators, num_particles=entry.num_particles)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-6 if label in SINGLE else TIGHT)


@pytest.mark.parametrize(
    ("label", "mode"),
    [("DisARM", False), ("LeaveOneOut", "vmap"), ("Enumeration", False), ("REBAR", "vmap")],
)
def test_every_mode(label, mode):
    def programs():
        program = layout_of("hierarchy", REGISTRY[label].families[0])
        estimators = {site: REGISTRY[label].make() for site in program.sites}
        particles = REGISTRY[label].num_particles
        elbo = pre.TraceEstimator_ELBO(estimators, num_particles=particles, vectorize_particles=mode)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-6 if label in SINGLE else TIGHT)


def regression():
    x, y = torch.linspace(-1, 1, 20), torch.linspace(0, 2, 20).square()

    def model():
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(w * x + b.sum(-1, keepdim=True), scale), obs=y)

    return model


@pytest.mark.parametrize(
    "elbo", [pre.TraceEstimator_ELBO, Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO]
)
@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
def test_every_elbo(elbo):
    model = regression()
    assert_same_steps(lambda: (model, guides.AutoNormal(model), elbo(max_plate_nesting=1)))


def squared_error(model, guide, x):
    """Of no model and no guide that Pyro would know."""
    return (guide() * x - model(x)).square().sum()


def test_a_loss_that_is_a_function():
    """Its value needs a gradient, and no number is made of it behind torch's back."""

    def scale() -> torch.Tensor:
        return pyro.param("scale", torch.tensor([0.5, 2.0]))

    torch.set_warn_always(True)  # else torch says so once, in whichever test is first
    try:
        assert_same_steps(lambda: (torch.sin, scale, squared_error), lambda i: (torch.ones(2) + i,))
    finally:
        torch.set_warn_always(False)


AUTOGUIDES = [
    guides.AutoNormal,
    guides.AutoDiagonalNormal,
    guides.AutoMultivariateNormal,
    guides.AutoLowRankMultivariateNormal,
    guides.AutoDelta,
    guides.AutoIAFNormal,
    guides.AutoStructured,
    guides.AutoHierarchicalNormalMessenger,
    guides.AutoNormalMessenger,
]


@pytest.mark.parametrize("guide", one_in(3, AUTOGUIDES))
def test_every_autoguide(guide):
    model = regression()
    assert_same_steps(lambda: (model, guide(model), pre.TraceEstimator_ELBO(max_plate_nesting=1)))


OPTIMISERS = {
    "Adam": lambda: Adam({"lr": 0.01, "weight_decay": 0.1}),
    "amsgrad": lambda: Adam({"lr": 0.01, "amsgrad": True, "maximize": True}),
    "AdamW": lambda: AdamW({"lr": 0.01}),
    "clipped": lambda: Adam({"lr": 0.01}, {"clip_norm": 0.5}),
    "clipped values": lambda: Adam({"lr": 0.01}, {"clip_value": 0.5}),
    "SGD": lambda: SGD({"lr": 0.001}),
    "momentum": lambda: SGD({"lr": 0.001, "momentum": 0.5, "dampening": 0.1, "weight_decay": 0.1}),
    "Nesterov": lambda: SGD({"lr": 0.001, "momentum": 0.5, "nesterov": True}),
    "ClippedAdam": lambda: ClippedAdam({"lr": 0.01, "lrd": 0.9, "clip_norm": 1.0, "weight_decay": 0.1}),
    "centred": lambda: ClippedAdam({"lr": 0.01, "centered_variance": True}),
    "RMSprop": lambda: RMSprop({"lr": 0.01}),
    "rates by name": lambda: Adam(lambda name: {"lr": 0.02 if "loc" in name else 0.01}),
    "scheduled": lambda: ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.5}
    ),
}


@pytest.mark.parametrize("name", one_in(4, OPTIMISERS))
def test_every_optimiser(name):
    model, optim = regression(), None

    def make():
        nonlocal optim
        optim = OPTIMISERS[name]()
        return optim

    def args(number):
        if number and name == "scheduled":
            optim.step()
        return ()

    assert_same_steps(
        lambda: (model, guides.AutoNormal(model), pre.TraceEstimator_ELBO(max_plate_nesting=1)),
        args,
        count=5,
        optim=make,
    )


# -- state ------------------------------------------------------------------------------------------


def discrete(temperature):
    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=torch.tensor(1.0))

    def guide():
        logits = pyro.param("logits", torch.zeros(2))
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    return model, guide, pre.TraceEstimator_ELBO(pre.GumbelSoftmax(temperature))


def test_a_schedule_goes_on_in_the_graph():
    schedules = []

    def programs():
        schedules.append(pre.ExponentialDecay(1.0, 0.1, 0.3))
        return discrete(schedules[-1])

    assert_same_steps(programs, count=6)
    assert [schedule.steps.item() for schedule in schedules] == [6, 6]


def test_a_learned_temperature():
    assert_same_steps(lambda: discrete(nn.Parameter(torch.tensor(0.7))), count=6)


class Normalised(nn.Module):
    """Batch normalisation, dropout, and a buffer that is bound anew in each call."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 1))
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        out = self.dropout(self.layers(x)).squeeze(-1)
        self.mean = 0.9 * self.mean + 0.1 * out.detach().mean()
        return out - self.mean


def normalised(networks):
    """Programs of a network with running means; each that is made is added to ``networks``."""
    network = Normalised()
    networks.append(network)

    def model(x):
        pyro.module("network", network)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(network(x) + z, 1.0), obs=x[:, 0])

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))

    return model, guide, pre.TraceEstimator_ELBO(max_plate_nesting=1)


def test_buffers_are_written():
    networks = []
    data = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    assert_same_steps(lambda: normalised(networks), lambda number: (data * (number + 1),), count=6)
    eager, graph = (dict(network.named_buffers()) for network in networks)
    for name, buffer in eager.items():
        torch.testing.assert_close(graph[name], buffer)
    assert graph["layers.1.num_batches_tracked"] == 6


def test_sub_sampled_plates_draw_in_the_graph():
    data = torch.arange(20.0)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(data), subsample_size=5) as rows:
            pyro.sample("x", dist.Normal(z, 1.0), obs=data[rows])

    assert_same_steps(lambda: (model, guides.AutoNormal(model), pre.TraceEstimator_ELBO()), count=6)


class Network(PyroModule):
    def __init__(self):
        super().__init__()
        self.hidden = PyroModule[nn.Linear](2, 4)
        self.hidden.weight = PyroSample(dist.Normal(0.0, 1.0).expand([4, 2]).to_event(2))
        self.out = PyroModule[nn.Linear](4, 1)

    def forward(self, x, y):
        mean = self.out(torch.tanh(self.hidden(x))).squeeze(-1)
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def test_a_pyro_module():
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))

    def programs():
        model = Network()
        return model, guides.AutoNormal(model), pre.TraceEstimator_ELBO()

    assert_same_steps(programs, lambda number: (x, x[:, 1]))


@pytest.mark.parametrize("context", [pre.nn.local_reparameterization, pre.nn.flipout])
def test_every_context(context):
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))

    def programs():
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        bayesian = pre.nn.to_bayesian(network, dist.Normal(0.0, 1.0))

        def model(x):
            with context():
                mean = bayesian(x).squeeze(-1)
            with pyro.plate("rows", len(x)):
                pyro.sample("y", dist.Normal(mean, 0.5), obs=x[:, 0])

        return model, guides.AutoNormal(model), pre.TraceEstimator_ELBO()

    assert_same_steps(programs, lambda number: (x,))
