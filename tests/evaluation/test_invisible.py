"""Runs that a user never asked for change nothing that the user can see."""

import itertools
import random
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal, init_to_sample
from pyro.nn import PyroModule, PyroParam
from pyro.optim import Adam
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation.invisible import invisible


def all_random_states():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
    )


def gamble():
    """Takes random numbers from everywhere, and adds a parameter."""
    pyro.param("added", lambda: torch.randn(2))
    np.random.rand()
    return pyro.sample("z", dist.Normal(random.random(), 1.0))


def test_random_states_and_parameter_store():
    pyro.param("known", torch.ones(()))
    before = all_random_states()
    with poutine.trace() as tracer, invisible(gamble):
        gamble()
        assert "added" in pyro.get_param_store()
    assert all_random_states() == before
    assert set(pyro.get_param_store().keys()) == {"known"}
    assert not tracer.trace.nodes


def test_tensors_that_go_by_several_names():
    known, new = (nn.Parameter(torch.ones(2)) for _ in range(2))

    def program():
        for name, tensor in (("a", new), ("b", new), ("of known", known)):
            pyro.param(name, tensor)
        pyro.get_param_store()["changed"] = torch.zeros(2)

    store = pyro.get_param_store()
    pyro.param("known", known)
    changed = pyro.param("changed", torch.ones(2))
    with invisible(program):
        program()
    assert dict(store.named_parameters()) == {"known": known, "changed": changed}
    assert [store.param_name(p) for p in (known, changed, new)] == ["known", "changed", None]


def test_after_an_error_too():
    before = all_random_states()
    with pytest.raises(KeyError), invisible(gamble):
        gamble()
        raise KeyError
    assert all_random_states() == before
    assert not list(pyro.get_param_store().keys())


class Stateful(nn.Module):
    """Changes in every way in which modules change when they run."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("rebound", torch.zeros(()))
        self.register_buffer("missing", None)
        self.calls = 0
        self.seen = []
        self.by_name = {}

    def forward(self):
        self.norm(torch.arange(6.0).reshape(3, 2))
        self.rebound = self.rebound + 1
        self.calls += 1
        self.seen.append(self.calls)
        self.by_name[self.calls] = self.rebound
        self.lazy = nn.Linear(1, 1)
        return pyro.sample("z", dist.Normal(0.0, 1.0))

    def state(self):
        kept = (self.calls, list(self.seen), dict(self.by_name), hasattr(self, "lazy"))
        return kept, {name: buffer.tolist() for name, buffer in self.named_buffers()}


class Owner:
    """Has a module, and is none."""

    def __init__(self, module):
        self.module = module

    def guide(self):
        return self.module()


class Called(Owner):
    def __call__(self):
        return self.module()


def closing_over(module):
    def guide():
        return module()

    return guide


def calling(function):
    return lambda: function()


PROGRAMS = [
    ("module", lambda m: m),
    ("bound method", lambda m: m.forward),
    ("method of an owner", lambda m: Owner(m).guide),
    ("instance", Called),
    ("closure", closing_over),
    ("closure of a closure", lambda m: calling(closing_over(m))),
    ("partial", lambda m: partial(lambda function: function(), m)),
    ("default", lambda m: lambda module=m: module()),
    ("container", lambda m: lambda modules=({"a": [m]},): modules[0]["a"][0]()),
    ("handler", lambda m: poutine.scale(closing_over(m), 2.0)),
    ("config_estimator", lambda m: pre.config_estimator(closing_over(m), None)),
]


@pytest.mark.parametrize("make", [p[1] for p in PROGRAMS], ids=[p[0] for p in PROGRAMS])
def test_modules_that_a_program_reaches(make):
    module = Stateful()
    program = make(module)
    program()
    del module.lazy
    before = module.state()
    with invisible(program):
        program()
        assert module.state() != before
    assert module.state() == before
    program()  # and it still runs
    assert module.calls == 2


SHARED = Stateful()


def through_a_global():
    return SHARED()


def test_module_that_is_a_global():
    before = SHARED.state()
    with invisible(calling(through_a_global)):
        through_a_global()
    assert SHARED.state() == before


def test_buffers_that_did_not_change_may_be_in_a_graph():
    module = Stateful()
    weight = torch.ones(2, requires_grad=True)
    loss = (weight * module.norm.running_mean).sum()
    with invisible(module):
        pass
    loss.backward()


def test_layers_that_are_initialised_lazily():
    network = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    with invisible(network):
        network(torch.ones(4, 3))
    assert network(torch.ones(4, 3)).shape == (4, 2)


# -- what it is for -------------------------------------------------------------------------------


def model():
    with pyro.plate("data", 3):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.ones(3))


def guide():
    loc = pyro.param("loc", lambda: torch.randn(3))
    with pyro.plate("data", 3):
        pyro.sample("z", dist.Normal(loc, 1.0))


class Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc = PyroParam(lambda: torch.randn(3))
        self.norm = nn.BatchNorm1d(1)
        self.calls = 0

    def forward(self):
        self.calls += 1
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(self.norm(self.loc.unsqueeze(-1)).squeeze(-1), 1.0))


GUIDES = [
    ("function", lambda: guide),
    ("module", Guide),
    ("AutoNormal", lambda: AutoNormal(model, init_loc_fn=init_to_sample)),
    ("AutoDelta", lambda: AutoDelta(model, init_loc_fn=init_to_sample)),
    ("AutoMultivariateNormal", lambda: AutoMultivariateNormal(model, init_loc_fn=init_to_sample)),
]


@pytest.mark.parametrize("make", [g[1] for g in GUIDES], ids=[g[0] for g in GUIDES])
def test_steps_are_those_of_trace_elbo_from_the_first_on(make):
    """The plate nesting is guessed by a run that takes no random numbers from the others."""
    losses, parameters = [], []
    for elbo in (Trace_ELBO(), pre.TraceEstimator_ELBO()):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        svi = SVI(model, make(), Adam({"lr": 0.1}), elbo)
        losses.append(torch.tensor([svi.step() for _ in range(3)]))
        parameters.append([p.detach().clone() for p in pyro.get_param_store().values()])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*parameters)


@pytest.mark.parametrize("vectorized", [True, False])
def test_guide_runs_once_in_its_first_step(vectorized):
    stateful = Guide()
    pre.TraceEstimator_ELBO(vectorize_particles=vectorized).loss_and_grads(model, stateful)
    assert stateful.calls == 1
    assert stateful.norm.num_batches_tracked == 1


NORMALISED = {
    "DisARM": (pre.DisARM(), 1),
    "LocalExpectation": (pre.LocalExpectation(), 1),
    "Enumeration": (pre.Enumeration(), 1),
    "LeaveOneOut": (pre.LeaveOneOut(), 2),
    "Pathwise": (None, 2),
}


@pytest.mark.parametrize("vectorized", [True, "vmap", False])
@pytest.mark.parametrize("place", ["model", "guide"])
@pytest.mark.parametrize("name", NORMALISED)
def test_batch_normalisation_that_is_trained(name, place, vectorized):
    """The graph of a step has saved buffers that a run in between must leave alone."""
    norm, rows = nn.BatchNorm1d(2), torch.arange(8.0).reshape(4, 2)
    estimator, num_particles = NORMALISED[name]
    normal = estimator is None

    def added(side):
        if side != place:
            return torch.tensor(0.0)
        pyro.module("norm", norm)
        return 0.1 * norm(rows).square().sum()

    def guide():
        loc = pyro.param("l", torch.tensor(0.2)) + added("guide")
        pyro.sample("z", dist.Normal(loc, 1.0) if normal else dist.Bernoulli(logits=loc))

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0) if normal else dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(z + added("model"), 1.0), obs=torch.tensor(0.5))

    elbo = pre.TraceEstimator_ELBO(
        estimator, num_particles=num_particles, vectorize_particles=vectorized
    )
    counts = [0]
    for _ in range(5):
        elbo.loss_and_grads(model, guide)
        counts.append(int(norm.num_batches_tracked))
    steps = [after - before for before, after in itertools.pairwise(counts)]
    assert steps[1:] == steps[1:2] * 4  # also where the program is compared again
    if vectorized != "vmap":  # which makes parameters by a run of its own
        assert steps[0] == steps[1]
    assert norm.weight.grad.isfinite().all()


def test_resumed_run_repeats():
    """A new ELBO in the middle of a run changes nothing."""
    runs = []
    for resumed in (False, True):
        pyro.clear_param_store()
        pyro.set_rng_seed(2)
        optimizer = Adam({"lr": 0.1})
        svi = SVI(model, guide, optimizer, pre.TraceEstimator_ELBO(num_particles=2))
        losses = [svi.step() for _ in range(3)]
        if resumed:
            svi = SVI(model, guide, optimizer, pre.TraceEstimator_ELBO(num_particles=2))
        runs.append(losses + [svi.step() for _ in range(3)])
    assert runs[0] == runs[1]


def test_nesting_is_guessed_inside_a_transform():
    def loss(loc):
        def guide():
            with pyro.plate("data", 3):
                pyro.sample("z", dist.Normal(loc, 1.0))

        return pre.TraceEstimator_ELBO().differentiable_loss(model, guide)

    gradient = torch.func.vmap(torch.func.grad(loss), randomness="same")
    with pyro.validation_enabled(False):
        assert gradient(torch.zeros(5, 3)).isfinite().all()


def test_handlers_outside_act_once_however_deep():
    """Also on a run inside of a run that leaves no trace."""

    def program():
        return pyro.sample("x", dist.Normal(0.0, 1.0))

    with poutine.scale(scale=0.1), invisible(program), invisible(program):
        trace = poutine.trace(program).get_trace()
    assert trace.nodes["x"]["scale"] == 0.1
