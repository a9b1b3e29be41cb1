"""One loss, whether particles run one by one or side by side, whatever a network puts out."""

from __future__ import annotations

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyro_reparam_ext as pre

N, F, P = 7, 3, 5
X = torch.linspace(-1.0, 1.0, N * 4).reshape(N, 4)
NORMAL = dist.Normal(0.0, 1.0)


class Then(nn.Module):
    """A linear layer, and a function of its output; its input may be unsqueezed first."""

    def __init__(self, inputs, outputs, function, before=lambda x: x):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.function, self.before = function, before

    def forward(self, x):
        return self.function(self.linear(self.before(x)))


def rows(n=N, dim=-1):
    return pyro.plate(f"rows{n}", n, dim=dim)


def observe(loc, event_dim=0, name="y"):
    pyro.sample(name, dist.Normal(loc, 1.0).to_event(event_dim), obs=torch.ones(()))


def in_rows(loc):
    with rows():
        observe(loc)


def in_rows_of_vectors(loc):
    with rows():
        observe(loc, 1)


def in_two_plates(loc):
    with rows(dim=-2), rows(F):
        observe(loc)


def vectors_beside_a_nested_plate(loc):
    with rows():
        observe(loc, 1)
        with pyro.plate("other", 2, dim=-2):
            pyro.sample("z", NORMAL, obs=torch.zeros(2, N))


def first_column(loc):
    in_rows(loc[..., 0])


def rows_beside_a_nested_plate(loc):
    with rows():
        observe(loc)
        with pyro.plate("other", 2, dim=-2):
            pyro.sample("z", NORMAL, obs=torch.zeros(2, N))


def one_event(loc):
    observe(loc, 1, "vector")
    in_rows(torch.zeros(()))


PROGRAMS = {
    # name: (module, input, use of the output, options)
    "(N,) by flatten": (lambda: Then(4, 1, nn.Flatten(0)), X, in_rows, {}),
    "(N,) by squeeze": (lambda: Then(4, 1, lambda y: y.squeeze(-1)), X, in_rows, {}),
    "(N, 1) squeezed outside": (lambda: nn.Linear(4, 1), X, lambda y: in_rows(y.squeeze(-1)), {}),
    "(N, F)": (lambda: nn.Linear(4, F), X, in_rows_of_vectors, {}),
    "(N, N)": (lambda: nn.Linear(4, N), X, in_rows_of_vectors, {}),
    "(N, F), a column": (lambda: nn.Linear(4, F), X, first_column, {}),
    "one row": (lambda: Then(4, 1, nn.Flatten(0)), X[:1], in_rows, {}),
    "()": (lambda: Then(4, 1, lambda y: y.sum()), X, in_rows, {}),
    "() without plates": (lambda: Then(4, 1, lambda y: y.sum()), X, observe, {}),
    "(N,) without plates": (
        lambda: Then(4, 1, nn.Flatten(0)),
        X,
        lambda y: observe(y, 1),
        {},
    ),
    "indices": (lambda: nn.Embedding(N, F), torch.arange(N), in_rows_of_vectors, {}),
    "images": (
        lambda: nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Flatten(0)),
        torch.ones(N, 2, 3, 3),
        in_rows,
        {},
    ),
    "(N,) beside nested plates": (lambda: Then(4, 1, nn.Flatten(0)), X, rows_beside_a_nested_plate, {}),
    "two plates": (
        lambda: nn.Linear(4, F),
        X,
        in_two_plates,
        {"event_dim": 0},
    ),
    "vectors beside nested plates": (
        lambda: nn.Linear(4, F),
        X,
        vectors_beside_a_nested_plate,
        {"event_dim": 1},
    ),
    "rows of rows": (
        lambda: Then(4, 1, lambda y: y.squeeze(-1)),
        X[:, None] * torch.ones(F, 1),
        in_two_plates,
        {},
    ),
    "scalars in and out": (
        lambda: Then(1, 1, lambda y: y.squeeze(-1), lambda x: x.unsqueeze(-1)),
        X[:, 0],
        in_rows,
        {"event_dim": 0},
    ),
    "one example": (lambda: nn.Linear(4, F), X[0], one_event, {"event_dim": 1}),
    "two outputs": (
        lambda: Then(4, 2, lambda y: (y[:, 0], y[:, 1:])),
        X,
        lambda y: in_rows(y[0] + y[1].squeeze(-1)),
        {},
    ),
}
"""What a network puts out, and how a program uses it."""


def program(name):
    make, x, use, options = PROGRAMS[name]
    bnn = pre.nn.to_bayesian(make(), NORMAL, **options)
    model = lambda: use(bnn(x))  # noqa: E731
    guide = AutoNormal(model, init_scale=0.3)
    guide()
    return model, guide


def log_densities(model, guide, size, nesting):
    """Of all sites of the model, for each particle, side by side and then one by one."""
    plate = pyro.plate("num_particles_vectorized", size, dim=-1 - nesting)
    with plate:
        drawn = poutine.trace(guide).get_trace()
        trace = poutine.trace(poutine.replay(model, trace=drawn)).get_trace()
    trace.compute_log_prob()
    sites = [x for x in trace.nodes.values() if x["type"] == "sample"]
    together = sum(_by_particle(x["log_prob"], size, nesting) for x in sites if "rows" not in x["name"])
    single = []
    for i in range(size):
        values = {
            name: x["value"][i].reshape(x["value"].shape[1 + nesting :])
            for name, x in drawn.nodes.items()
            if x["type"] == "sample" and name in trace.nodes
        }
        one = poutine.trace(poutine.condition(model, data=values)).get_trace()
        single.append(one.log_prob_sum())
    return together, torch.stack(single)


def _by_particle(log_prob, size, nesting):
    assert log_prob.dim() <= 1 + nesting  # nothing left of the particles
    full = log_prob.expand(size, *log_prob.shape[log_prob.dim() - nesting :] if nesting else ())
    return full.reshape(size, -1).sum(-1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_particle_has_the_density_that_it_has_alone(name):
    """Pyro's own plate of particles, which nothing checks."""
    model, guide = program(name)
    nesting = depth(model)
    together, single = log_densities(model, guide, P, nesting)
    torch.testing.assert_close(together, single)


def depth(model):
    """How many dims the plates of a model take."""
    frames = [
        frame.dim
        for node in poutine.trace(model).get_trace().nodes.values()
        if node["type"] == "sample"
        for frame in node["cond_indep_stack"]
    ]
    return -min(frames, default=0)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("context", [None, pre.nn.local_reparameterization, pre.nn.flipout])
@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
def test_the_loss_of_particles(name, context, elbo):
    """A guide that hardly varies has one loss for any number; the weights' own terms count nothing."""
    make, x, use, options = PROGRAMS[name]
    bnn = poutine.scale(pre.nn.to_bayesian(make(), NORMAL, **options), 1e-9)
    model = lambda: use(bnn(x))  # noqa: E731
    guide = AutoNormal(model, init_scale=1e-6)
    guide()
    guide = poutine.scale(guide, 1e-9)
    losses = []
    for size in (1, P):
        particles = {"vectorize_particles": True, "max_plate_nesting": depth(model)}
        with contextlib.nullcontext() if context is None else context():
            losses.append(elbo(num_particles=size, **particles).loss(model, guide))
    assert losses[0] > 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("context", [pre.nn.local_reparameterization, pre.nn.flipout])
def test_noise_of_layers_is_no_fault_of_the_program(context, mode):
    """Particles stay side by side although no plain run has their noise."""
    x = torch.linspace(-1.0, 1.0, 30).reshape(10, 3)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    bnn = pre.nn.to_bayesian(network, NORMAL)

    def model():
        loc = bnn(x).squeeze(-1)
        with pyro.plate("data", 10):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=x.sum(-1))

    guide = AutoNormal(model)
    elbo = pre.TraceEstimator_ELBO(num_particles=3, vectorize_particles=mode)
    for _ in range(5):
        with context():
            elbo.loss_and_grads(model, guide)
    assert [way.mode for way in elbo._ways] == [mode]


AMBIGUOUS = {
    "features or plates": (lambda: nn.Linear(4, F), X, 2, "its first 1 dims are rows"),
    "one example": (lambda: nn.Linear(4, F), X[0], 1, "none of its dims"),
    "numbers": (lambda: Then(1, 1, lambda y: y[:, 0], lambda x: x[:, None]), X[:, 0], 1, "none of its"),
    "a sum over rows": (lambda: Then(4, F, lambda y: y.sum(0)), X, 1, "none of its dims"),
    "an image": (lambda: Then(4, 4, lambda y: y.reshape(2, 2)), X[0], 1, "none of its dims"),
}
"""Outputs in which dims of particles could go to several places, and how many plates there are."""


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_cannot_be_told_raises(name):
    """And the remedy of the error can be followed."""
    make, x, nesting, match = AMBIGUOUS[name]
    for event_dim in (None, 0, 1):
        bnn = pre.nn.to_bayesian(make(), NORMAL, event_dim=event_dim)
        plain = bnn(x).shape
        with pyro.plate("num_particles_vectorized", P, dim=-1 - nesting):
            if event_dim is None:
                with pytest.raises(pre.EstimatorError, match=f"(?s){match}.*event_dim=.*to_event"):
                    bnn(x)
                continue
            rows = len(plain) - event_dim
            ones = (1,) * (nesting - rows)
            assert bnn(x).shape == (P, *ones, *plain)


def test_a_latent_of_numbers_is_not_taken_for_data():
    """It has the particles' dims itself, although it has no dim of features."""
    bnn = pre.nn.to_bayesian(Then(1, 1, lambda y: y[..., 0], lambda x: x[..., None]), NORMAL)

    def model():
        with rows():
            z = pyro.sample("z", NORMAL)
        loc = bnn(z)
        with pyro.plate("observed", N):
            observe(loc)

    guide = AutoNormal(model)
    guide()
    elbo = Trace_ELBO(num_particles=P, vectorize_particles=True, max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match="input_dims"):
        elbo.loss(model, guide)
    bnn.input_dims, bnn.event_dim = 1, 0
    assert elbo.loss(model, guide) > 0


def test_predictive_of_rows():
    bnn = pre.nn.to_bayesian(Then(4, 1, nn.Flatten(0)), NORMAL)

    def model():
        loc = bnn(X)
        with rows():
            pyro.sample("y", dist.Normal(loc, 1.0))

    assert Predictive(model, num_samples=P, parallel=True)()["y"].shape == (P, N)
