"""Priors whose function samples: each particle has the density that it has alone."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyro_reparam_ext as pre

from ..sampling import losses
from ..statistics import assert_z

OUT, IN = 8, 3
HALF = dist.HalfNormal(1.0)
X = torch.linspace(-1.0, 1.0, 5 * IN).reshape(5, IN)
CONSTANT = torch.linspace(0.5, 2.0, OUT).unsqueeze(-1)


def scale(name, w):
    return dist.Normal(0.0, pyro.sample(f"{name}_scale", HALF))


def scale_by_hand(name, w):
    """As Pyro wants it of a program with particles."""
    return dist.Normal(0.0, pyro.sample(f"{name}_scale", HALF)[(..., *(None,) * w.dim())])


def scale_of_columns(name, w):
    return dist.Normal(0.0, pyro.sample(f"{name}_scale", HALF.expand([w.shape[-1]]).to_event(1)))


def scale_of_rows(name, w):
    scales = pyro.sample(f"{name}_scale", HALF.expand([len(w)]).to_event(1))
    return dist.Normal(0.0, scales if w.dim() == 1 else scales.unsqueeze(-1))


def scale_of_rows_in_a_plate(name, w):
    with pyro.plate(f"{name}_rows", len(w), dim=-1):
        scales = pyro.sample(f"{name}_scale", HALF)
    return dist.Normal(0.0, scales if w.dim() == 1 else scales.unsqueeze(-1))


def scale_times_constant(name, w):
    constant = CONSTANT if w.dim() == 2 else CONSTANT[:, 0]
    return dist.Normal(0.0, pyro.sample(f"{name}_scale", HALF) * constant)


def location_and_scale(name, w):
    loc = pyro.sample(f"{name}_loc", dist.Normal(0.0, 1.0))
    return dist.StudentT(3.0, loc, pyro.sample(f"{name}_scale", dist.Gamma(2.0, 1.0 + loc.exp())))


def an_event(name, w):
    """By hand, of the parameter's full shape."""
    sd = pyro.sample(f"{name}_scale", HALF)[(..., *(None,) * w.dim())]
    return dist.Normal(torch.zeros(w.shape), sd).to_event(w.dim())


def not_used(name, w):
    pyro.sample(f"{name}_scale", HALF)
    return dist.Normal(0.0, CONSTANT if w.dim() == 2 else CONSTANT[:, 0])


PRIORS = {
    f.__name__: f
    for f in (
        scale,
        scale_by_hand,
        scale_of_columns,
        scale_of_rows,
        scale_of_rows_in_a_plate,
        scale_times_constant,
        location_and_scale,
        an_event,
        not_used,
    )
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("size", [OUT, IN, 2, 1])
@pytest.mark.parametrize("dim", [-2, -3])
def test_each_particle_has_the_density_that_it_has_alone(prior, size, dim):
    """Also where there are as many particles as a parameter has rows or columns."""
    bnn = pre.nn.to_bayesian(nn.Linear(IN, OUT), prior, event_dim=1)
    x = torch.randn(5, IN)
    with pyro.plate("num_particles_vectorized", size, dim=dim):
        trace = poutine.trace(bnn).get_trace(x)
    trace.compute_log_prob()
    values = {k: v["value"] for k, v in trace.nodes.items() if is_random(v)}
    assert values["weight"].shape[-2:] == (OUT, IN)
    for name in ("weight", "bias"):
        log_prob = trace.nodes[name]["log_prob"]
        assert log_prob.shape == (size, *(1,) * (-1 - dim))
        for i in range(size):
            one = alone(bnn, x, {name: value[i] for name, value in values.items()})
            torch.testing.assert_close(log_prob[i].squeeze(), one.nodes[name]["log_prob"])


def is_random(node):
    return node["type"] == "sample" and hasattr(node["fn"], "event_dim")


def alone(bnn, x, values):
    """The trace of a single particle with these values."""
    plain = poutine.trace(bnn).get_trace(x)
    shapes = {name: node["value"].shape for name, node in plain.nodes.items() if is_random(node)}
    given = {name: values[name].reshape(shape) for name, shape in shapes.items()}
    trace = poutine.trace(poutine.condition(bnn, data=given)).get_trace(x)
    trace.compute_log_prob()
    return trace


def test_what_does_not_broadcast_raises():
    """Where particles come; alone it is served."""

    def prior(name, w):
        s = pyro.sample(f"{name}_scale", HALF.expand([2]).to_event(1))
        return dist.Normal(s[0], s[1])

    bnn = pre.nn.to_bayesian(nn.Linear(IN, OUT), {"weight": prior})
    model = lambda: bnn(torch.zeros(5, IN))  # noqa: E731
    guide = AutoNormal(model)
    guide()
    many = {"num_particles": 4, "max_plate_nesting": 1}
    Trace_ELBO(**many).loss(model, guide)
    with pytest.raises(pre.EstimatorError, match=r"(?s)'weight_scale'.*\[\.\.\., None\].*vectorize_"):
        Trace_ELBO(**many, vectorize_particles=True).loss(model, guide)


def test_two_parameters_with_one_site():
    def prior(name, w):
        return dist.Normal(0.0, pyro.sample("s", HALF))

    with pytest.raises(pre.EstimatorError, match="site 's'.*'weight' and 'bias' both.*{name}_scale"):
        pre.nn.to_bayesian(nn.Linear(IN, OUT), prior)
    pre.nn.to_bayesian(nn.Linear(IN, OUT), {"weight": prior})


def test_a_network_is_made_without_a_trace():
    """Neither sites nor random numbers of the program around it are touched."""

    def program():
        with pyro.plate("num_particles_vectorized", 3, dim=-2):
            return pre.nn.to_bayesian(nn.Linear(IN, OUT), scale)

    state = torch.get_rng_state()
    nn.Linear(IN, OUT)
    expected = torch.rand(())
    torch.set_rng_state(state)
    trace = poutine.trace(program).get_trace()
    assert torch.rand(()) == expected
    assert [x for x in trace.nodes if "scale" in x] == []


@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
def test_the_loss_of_particles(elbo):
    """It has the mean that it has one by one."""
    bnn = pre.nn.to_bayesian(nn.Linear(IN, OUT), scale)
    x = torch.randn(5, IN)

    def model():
        loc = bnn(x)
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=torch.zeros(5, OUT))

    guide = AutoNormal(model, init_scale=1e-5)
    guide()
    quiet = {"max_plate_nesting": 1}
    alone = losses(elbo(**quiet), model, guide, 200)
    together = elbo(num_particles=200, vectorize_particles=True, **quiet).loss(model, guide)
    assert_z((together - alone.mean()) / (alone.std() * (2 / 200) ** 0.5))


@pytest.mark.parametrize("rule", ["distribution", "function"])
@pytest.mark.parametrize("scale_law", [HALF, dist.Bernoulli(0.5)], ids=["continuous", "discrete"])
def test_a_prior_made_from_a_variable_of_the_model(rule, scale_law):
    """With as many particles as rows its dim would be taken for one of the parameter."""

    def program():
        tau = 1.0 + pyro.sample("tau", scale_law)
        prior = dist.Normal(0.0, tau)
        given = prior if rule == "distribution" else lambda name, w: prior
        return pyro.poutine.trace(pre.nn.to_bayesian(nn.Linear(IN, OUT), {"weight": given}))(X)

    program()
    with pyro.plate("num_particles_vectorized", OUT, dim=-2):
        with pytest.raises(
            pre.EstimatorError, match=r"'weight' has batch shape \(8, 1\).*itself sample"
        ):
            program()


def test_a_prior_that_looks_at_a_variable_of_the_model():
    seen = {"tau": torch.ones(())}
    bnn = pre.nn.to_bayesian(nn.Linear(IN, OUT), {"weight": lambda n, w: dist.Normal(0.0, seen["tau"])})

    def model():
        seen["tau"] = pyro.sample("tau", HALF)
        return bnn(X)

    guide = AutoNormal(model)
    guide()
    with pytest.raises(pre.EstimatorError, match="'weight' has batch shape"):
        Trace_ELBO(num_particles=OUT, vectorize_particles=True, max_plate_nesting=1).loss(model, guide)


@pytest.mark.parametrize("learned", [False, True])
def test_a_prior_for_each_row_is_none_of_particles(learned):
    """Certain numbers, although there are as many; learned ones say that they are an event."""
    rows = CONSTANT.clone().requires_grad_(learned)

    def prior(name, w):
        fn = dist.Normal(0.0, rows)
        return fn.expand(w.shape).to_event(2) if learned else fn

    bnn = pre.nn.to_bayesian(nn.Linear(IN, OUT), {"weight": prior})
    with pyro.plate("num_particles_vectorized", OUT, dim=-2):
        trace = poutine.trace(bnn).get_trace(X)
    trace.compute_log_prob()
    node = trace.nodes["weight"]
    expected = dist.Normal(0.0, CONSTANT).log_prob(node["value"]).sum((-1, -2))
    torch.testing.assert_close(node["log_prob"], expected)
