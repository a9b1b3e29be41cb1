"""The ELBO wherever Trace_ELBO works: wrappers, autoguides, modules, stores."""

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, autoguide
from pyro.nn import PyroModule, PyroParam
from torch import nn

import pyro_reparam_ext as pre

from .layouts import Layout
from .registry import layout_of
from .sampling import gradients, layout_gradients
from .statistics import assert_mean

ESTIMATORS = {
    "ScoreFunction": (pre.ScoreFunction, 1),
    "LeaveOneOut": (pre.LeaveOneOut, 2),
    "DisARM": (pre.DisARM, 1),
    "REBAR": (pre.REBAR, 1),
    "LocalExpectation": (pre.LocalExpectation, 1),
    "Enumeration": (pre.Enumeration, 1),
}
MASK = torch.tensor([True, False, True])


class Wrapped(Layout):
    """Bernoulli vectors in a plate of three, under scale and mask; ``q`` and ``p`` wrap them."""

    def __init__(self, scale=1.0, mask=None, q=lambda fn: fn, p=lambda fn: fn, rows=None):
        self.scale, self.mask, self.q, self.p = scale, mask, q, p
        self.weight_q, self.weight_p = (
            torch.ones(3).double() if r is None else r for r in rows or (None, None)
        )
        super().__init__(None)

    def parameters(self):
        self.y = self.normal(3)
        return {"phi": self.normal(3, 2), "theta": self.normal(2)}

    def _context(self):
        stack = poutine.scale(scale=self.scale)
        return stack

    def infer(self, p):
        with self._context(), poutine.mask(mask=True if self.mask is None else self.mask):
            with pyro.plate("data", 3):
                pyro.sample("z", self.q(dist.Bernoulli(logits=p["phi"]).to_event(1)))

    def generate(self, p):
        with self._context(), poutine.mask(mask=True if self.mask is None else self.mask):
            with pyro.plate("data", 3):
                prior = dist.Bernoulli(torch.tensor(0.4).double()).expand([3, 2]).to_event(1)
                z = pyro.sample("z", self.p(prior))
                loc = (z * p["theta"]).sum(-1).sin() + z.prod(-1) * p["theta"][0]
                pyro.sample("y", dist.Normal(loc, 0.5), obs=self.y)

    def exact(self, p):
        z = torch.tensor([[[a, b]] for a in (0.0, 1.0) for b in (0.0, 1.0)]).double()
        z = z.expand(4, 3, 2)
        log_q = (z * p["phi"].sigmoid().log() + (1 - z) * (-p["phi"]).sigmoid().log()).sum(-1)
        prior = torch.tensor(0.4).double()
        log_p = (z * prior.log() + (1 - z) * (1 - prior).log()).sum(-1)
        loc = (z * p["theta"]).sum(-1).sin() + z.prod(-1) * p["theta"][0]
        log_y = dist.Normal(loc, 0.5).log_prob(self.y)
        mask = torch.ones(3).double() if self.mask is None else torch.as_tensor(self.mask).double()
        cost = self.weight_q * log_q - self.weight_p * log_p - log_y
        return self.scale * (log_q.exp() * mask * cost).sum()


WRAPPERS = {
    "scale": lambda: Wrapped(scale=2.5),
    "mask tensor": lambda: Wrapped(mask=MASK),
    "mask True": lambda: Wrapped(mask=True),
    "site mask True": lambda: Wrapped(q=lambda fn: fn.mask(True), p=lambda fn: fn.mask(True)),
    "site mask tensor": lambda: Wrapped(
        q=lambda fn: fn.mask(MASK), p=lambda fn: fn.mask(MASK), rows=(MASK.double(), MASK.double())
    ),
    "guide mask": lambda: Wrapped(q=lambda fn: fn.mask(MASK), rows=(MASK.double(), None)),
    "expand": lambda: Wrapped(q=lambda fn: fn.expand([3]), p=lambda fn: fn.mask(True).expand([3])),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_wrappers_keep_the_gradient(name, wrapper):
    layout = WRAPPERS[wrapper]()
    make, _ = ESTIMATORS[name]
    elbo = pre.TraceEstimator_ELBO(make(), num_particles=300)
    assert_mean(layout_gradients(elbo, layout, 20), layout.exact_gradient())


# -- autoguides ---------------------------------------------------------------------------------------


def _regression(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=None):
        pyro.sample("y", dist.Normal((w.unsqueeze(-2) * x).sum(-1), 0.5), obs=y)


@pytest.mark.parametrize(
    "name", ["AutoNormal", "AutoMultivariateNormal", "AutoDelta", "AutoNormalMessenger"]
)
def test_autoguides_equal_trace_elbo(name):
    x, y = torch.randn(5, 2).double(), torch.randn(5).double()
    results = []
    for cls in (pre.TraceEstimator_ELBO, pyro.infer.Trace_ELBO):
        pyro.clear_param_store()
        torch.manual_seed(1)
        guide = getattr(autoguide, name)(_regression)
        guide(x, y)
        for elbo in (cls(max_plate_nesting=1), cls(num_particles=3, vectorize_particles=False)):
            for parameter in guide.parameters():
                parameter.grad = None
            torch.manual_seed(2)
            loss = elbo.loss_and_grads(_regression, guide, x, y)
            grads = [p.grad.flatten() for p in guide.parameters()]
            results.append(torch.cat([torch.tensor([loss]), *grads]))
    torch.testing.assert_close(results[:2], results[2:])


@pytest.mark.parametrize("name", ["AutoNormal", "AutoNormalMessenger"])
def test_autoguide_of_a_subsampled_plate(name):
    y = torch.randn(6)

    def model():
        with pyro.plate("data", 6, subsample_size=2) as i:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[i])

    guide = getattr(autoguide, name)(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pre.TraceEstimator_ELBO())
    assert all(torch.tensor(svi.step()).isfinite() for _ in range(5))


# -- modules ------------------------------------------------------------------------------------------


class _Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 3)
        self.offset = PyroParam(torch.zeros(3))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            logits = self.encoder(x) + self.offset
            return pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


class _Model(PyroModule):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(3, 2)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.5)).expand([len(x), 3]).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


def test_modules_and_a_torch_optimiser():
    x, model, guide = torch.randn(4, 2), _Model(), _Guide()
    elbo = pre.TraceEstimator_ELBO({"z": pre.REBAR()})
    loss_fn = elbo(model, guide)
    loss_fn(x)
    parameters = dict(loss_fn.named_parameters())
    assert sum("scale" in name or "log_temperature" in name for name in parameters) == 2
    optimiser = torch.optim.Adam(parameters.values(), 0.01)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    loss_fn(x).backward()
    assert all(value.grad is not None for value in parameters.values())
    optimiser.step()
    assert all(not torch.equal(before[name], value) for name, value in parameters.items())


def test_functional_gradient():
    x, elbo = torch.randn(4, 2), pre.TraceEstimator_ELBO(pre.Enumeration(), max_plate_nesting=1)
    with pyro.settings.context(module_local_params=True):
        model, guide = _Model(), _Guide()
        loss_fn = elbo(model, guide)
        parameters = {name: value.detach() for name, value in loss_fn.named_parameters()}
        functional = torch.func.grad(lambda p: torch.func.functional_call(loss_fn, p, (x,)))(parameters)
        loss_fn(x).backward()
    for name, value in loss_fn.named_parameters():
        torch.testing.assert_close(functional[name], value.grad)
        assert value.grad.abs().sum() > 0


# -- the object itself --------------------------------------------------------------------------------


def test_deepcopy_keeps_what_was_learned():
    layout = layout_of("plate", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO({"z": pre.REBAR()})
    layout_gradients(elbo, layout, 1)
    rows = []
    for one in (elbo, copy.deepcopy(elbo)):
        torch.manual_seed(3)
        rows.append(layout_gradients(one, layout, 1))
    torch.testing.assert_close(*rows)


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_copies_after_a_step(name, mode):
    """An ELBO keeps no graph of its last step, and no program, that could not be copied."""
    make, num_particles = ESTIMATORS[name]
    layout = layout_of("plate", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO({"z": make()}, num_particles=num_particles, vectorize_particles=mode)
    elbo.differentiable_loss(layout.model, layout.guide)
    copies = [copy.deepcopy(elbo)]
    if name != "REBAR":  # its temperature is a parameter in Pyro's store, which Pyro can't pickle
        copies.append(pickle.loads(pickle.dumps(elbo)))
    losses = []
    for one in (elbo, *copies):
        torch.manual_seed(1)
        losses.append(one.loss(layout.model, layout.guide))
    assert losses == losses[:1] * len(losses)


def test_pickle():
    """Before a step: afterwards Pyro's parameter store holds weak references, as in any module."""
    elbo = pre.TraceEstimator_ELBO({"z": pre.REBAR()}, num_particles=3)
    copied = pickle.loads(pickle.dumps(elbo))
    assert copied.num_particles == 3 and copied.estimators["z"].temperature == 0.5


def test_two_elbos_on_one_guide():
    layout = layout_of("plate", "Bernoulli-event")
    elbos = [
        pre.TraceEstimator_ELBO({"z": make()}, num_particles=300) for make in (pre.REBAR, pre.DisARM)
    ]
    for _ in range(2):
        for elbo in elbos:
            assert_mean(layout_gradients(elbo, layout, 20), layout.exact_gradient())


def test_under_block():
    layout = layout_of("plate", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO({"z": pre.DisARM()}, num_particles=300)
    with poutine.trace() as tracer, poutine.block():
        samples = layout_gradients(elbo, layout, 20)
    assert not tracer.trace.stochastic_nodes
    assert_mean(samples, layout.exact_gradient())


@pytest.mark.parametrize("name", ["ScoreFunction", "Pathwise"])
def test_one_particle_is_the_same_in_a_loop(name):
    family = "Normal" if name == "Pathwise" else "Bernoulli"
    layout = layout_of("plate", family)
    rows = []
    for vectorize in (True, False):
        pyro.clear_param_store()
        torch.manual_seed(3)
        estimators = {"z": getattr(pre, name)()}
        elbo = pre.TraceEstimator_ELBO(estimators, max_plate_nesting=1, vectorize_particles=vectorize)
        rows.append(layout_gradients(elbo, layout, 2))
    torch.testing.assert_close(*rows)


def test_differentiable_loss_equals_loss_and_grads():
    layout = layout_of("hierarchy", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO({"z1": pre.DisARM(), "z2": pre.REBAR()}, max_plate_nesting=1)
    row = layout_gradients(elbo, layout, 1)
    torch.manual_seed(1)
    row = layout_gradients(elbo, layout, 1)[0]
    torch.manual_seed(1)
    loss = elbo.differentiable_loss(layout.model, layout.guide)
    parameters = [pyro.param(name) for name in layout.initial]
    grads = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(
        row, torch.cat([loss.detach().reshape(1), *(g.flatten() for g in grads)])
    )


def test_svi_lowers_the_loss_and_advances_states():
    layout = layout_of("hierarchy", "Bernoulli-event")
    estimators = {"z1": pre.ScoreFunction("ema"), "z2": pre.DisARM()}
    elbo = pre.TraceEstimator_ELBO(estimators)
    svi = SVI(layout.model, layout.guide, pyro.optim.Adam({"lr": 0.03}), elbo)
    losses = [svi.step() for _ in range(200)]
    assert sum(losses[-50:]) < sum(losses[:50])
    (state,) = elbo.states.values()
    assert state.weight > 0.9


def test_names_in_gradients_helper():
    """The helper reads unconstrained parameters, which the layouts' are."""
    layout = layout_of("no_plate", "Bernoulli")
    elbo = pre.TraceEstimator_ELBO(pre.Enumeration())
    row = gradients(elbo, layout.model, layout.guide, ["phi"], 1)
    assert row.shape == (1, 2)
