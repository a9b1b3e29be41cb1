"""Bayesian networks within the ELBOs of Pyro that trace: the numbers of those that don't."""

from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import JitTrace_ELBO, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_value
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn.at_weights import call_at

NETWORKS = {
    "linear": lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)),
    "norm": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
    "dropout": lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1)),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 1, 3), nn.Flatten()),
}
CONTEXTS = {
    "plain": lambda network: nullcontext(),
    "flipout": lambda network: pre.nn.flipout(),
    "local": lambda network: pre.nn.local_reparameterization(),
    "kl_weight": lambda network: pre.nn.kl_weight(network, 0.3),
}
CASES = [
    *((name, "plain") for name in NETWORKS),
    *(("linear", context) for context in CONTEXTS if context != "plain"),
]
PARTICLES = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}


def programs(name):
    torch.manual_seed(0)
    prior = dist.Normal(0.0, 1.0)
    norms = {nn.BatchNorm1d: None} if name == "norm" else {}
    network = pre.nn.to_bayesian(NETWORKS[name](), {**norms, "*": prior})
    network.train(name != "norm")

    def model(x, y):
        loc = network(x).squeeze(-1)
        with pyro.plate("data", 6):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    start = init_to_value(values=network.initial_values())
    return network, model, AutoNormal(model, init_loc_fn=start, init_scale=0.1)


def loss_and_gradients(elbo, name, context):
    """Of a second call, at other data: the first one records."""
    pyro.clear_param_store()
    network, model, guide = programs(name)
    for seed in (1, 2):
        pyro.set_rng_seed(seed)
        x, y = torch.randn(6, 3), torch.randn(6)
        for p in pyro.get_param_store()._params.values():
            p.grad = None
        with CONTEXTS[context](network):
            loss = elbo.loss_and_grads(model, guide, x, y)
    return loss, {k: p.grad.clone() for k, p in pyro.get_param_store()._params.items()}


@pytest.mark.parametrize(("name", "context"), CASES)
def test_a_traced_elbo_has_the_numbers_of_the_other(name, context):
    loss, gradients = loss_and_gradients(JitTrace_ELBO(ignore_jit_warnings=True), name, context)
    expected, of_each = loss_and_gradients(Trace_ELBO(), name, context)
    assert loss == pytest.approx(expected, rel=1e-5)
    for key, gradient in of_each.items():
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-4, atol=1e-5)


def test_particles_side_by_side():
    traced, plain = JitTrace_ELBO(ignore_jit_warnings=True, **PARTICLES), Trace_ELBO(**PARTICLES)
    loss, gradients = loss_and_gradients(traced, "linear", "plain")
    expected, of_each = loss_and_gradients(plain, "linear", "plain")
    assert loss == pytest.approx(expected, rel=1e-5)
    for key, gradient in of_each.items():
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-4, atol=1e-5)


class Counting(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("make", "buffer"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "1.running_mean"),
        (lambda: nn.Sequential(nn.InstanceNorm1d(6, track_running_stats=True)), "0.running_mean"),
        (Counting, "calls"),
    ],
)
def test_buffers_are_not_left_behind(make, buffer):
    """Which what is recorded would not move."""
    module = make().requires_grad_(False)

    def call(x):
        return call_at(module, {}, (x,), {})

    with pytest.raises(pre.EstimatorError, match=f"{buffer}.*JitTrace_ELBO.*eval"):
        torch.jit.trace(call, torch.randn(6, 3))


class Tied(nn.Module):
    """One tensor under two names, and one beside them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("first", torch.zeros(2))
        self.register_buffer("second", self.first)
        self.register_buffer("other", torch.zeros(2))

    def forward(self, x, scale=1.0):
        if x is None:
            raise ValueError("no input")
        return scale * (x + self.first + self.second + self.other)


def test_weights_are_exchanged_for_the_call_alone():
    """Tied ones at all their names, within a trace as without, and also where the call fails."""
    module, weight = Tied(), {"first": torch.ones(2)}
    before = dict(module._buffers)

    def call(x):
        return call_at(module, weight, (x,), {"scale": 2.0})

    traced = torch.jit.trace(call, torch.zeros(2))
    for function in (call, traced):
        assert function(torch.zeros(2)).tolist() == [4.0, 4.0]

    def failing(x):
        with pytest.raises(ValueError, match="no input"):
            call_at(module, weight, (None,), {})
        return x + 1

    torch.jit.trace(failing, torch.zeros(2))
    assert all(module._buffers[name] is x for name, x in before.items())
