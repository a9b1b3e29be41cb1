"""Baselines by the other particles, and what the other data add to them."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.baselines import Shrinkage

from .. import sampling
from ..layouts import LAYOUTS
from ..registry import layout_of
from ..statistics import assert_mean
from .closed_form import Program, assert_same, gradients


def of_others(costs):
    """For each particle, along the first dim, the mean of the others."""
    rows = range(len(costs))
    return torch.stack([costs[[j for j in rows if j != i]].mean(0) for i in rows])


@pytest.mark.parametrize("num_particles", [2, 5])
def test_same_seed_closed_form(num_particles):
    program = Program(num_particles)
    elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=num_particles, max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (logits, weight) = program.value(), program.parameters()
    cost = program.cost(z, logits.detach(), weight)
    fixed = cost.detach()
    baseline = of_others(fixed)
    score = (program.log_q(z, logits) * (fixed - baseline)).sum() / num_particles
    assert_same(
        actual,
        torch.autograd.grad(score, logits)[0],
        torch.autograd.grad(cost.sum() / num_particles, weight)[0],
    )


def shrunk(num_particles, **options):
    options |= {"num_particles": num_particles, "max_plate_nesting": 1}
    return pre.TraceEstimator_ELBO(pre.LeaveOneOut(shrinkage=True), **options)


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("num_particles", [2, 3])
def test_same_seed_closed_form_of_shrinkage(num_particles, mode):
    """The share is that of the costs of past steps alone: in a loop, of all their particles alike."""
    program, elbo = Program(num_particles), shrunk(num_particles, vectorize_particles=mode)
    past = [torch.zeros((), dtype=torch.float64)] * 2
    for seed in (5, 6, 7):
        pyro.clear_param_store()
        actual = gradients(elbo, program, seed)
        torch.manual_seed(seed)
        z = program.value() if mode else looped(num_particles)
        logits, weight = program.parameters()
        cost = program.cost(z, logits.detach(), weight)
        fixed = cost.detach()
        others = of_others(fixed)
        distance = of_others(others.T).T - others  # rows are the data now
        share = (past[0] / past[1]).clamp(0, 1) if past[1] > 0 else 0.0
        error = fixed - others - share * distance
        score = (program.log_q(z, logits) * error).sum() / num_particles
        assert_same(
            actual,
            torch.autograd.grad(score, logits)[0],
            torch.autograd.grad(cost.sum() / num_particles, weight)[0],
        )
        if mode:
            now = [((fixed - others) * distance).mean(), distance.square().mean()]
            past = [0.95 * old + 0.05 * new for old, new in zip(past, now, strict=True)]
        else:
            for own, other, way in zip(fixed, others, distance, strict=True):
                now = [((own - other) * way).mean(), way.square().mean()]
                past = [0.95 * old + 0.05 * new for old, new in zip(past, now, strict=True)]
    assert 0 < share < 1


def looped(num_particles):
    """The draws of particles that are run one by one."""
    one = Program(1)
    return torch.stack([one.value() for _ in range(num_particles)])


class Certain(Shrinkage):
    """A share that is given, and is not small: it learns nothing."""

    def forward(self):
        return torch.full_like(self.products[0], 0.8)

    def update(self, *_):
        pass


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_share_biases_it(layout, mode, monkeypatch):
    """Costs outside of the plates, and those that depend on other elements, are in these layouts."""
    monkeypatch.setattr("pyro_reparam_ext.estimators.leave_one_out.Shrinkage", Certain)
    layout = layout_of(layout, "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO(
        {site: pre.LeaveOneOut(shrinkage=True) for site in layout.sites},
        num_particles=3 if mode is False else 60,
        vectorize_particles=mode,
    )
    samples = sampling.layout_gradients(elbo, layout, 60 if mode is False else 40)
    assert_mean(samples, layout.exact_gradient())


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_no_share_biases_costs_that_all_elements_have_in_common(mode, monkeypatch):
    """A cost of three times the sum of five fair bits: other data of the same particle know of it."""
    monkeypatch.setattr("pyro_reparam_ext.estimators.leave_one_out.Shrinkage", Certain)

    def guide():
        with pyro.plate("data", 5):
            logits = pyro.param("logits", torch.zeros(5, dtype=torch.float64))
            pyro.sample("z", dist.Bernoulli(logits=logits))

    def model():
        with pyro.plate("data", 5):
            z = pyro.sample("z", dist.Bernoulli(torch.full((5,), 0.5, dtype=torch.float64)))
        pyro.factor("f", -3 * z.sum(-1, keepdim=True))

    particles, calls = (3, 200) if mode is False else (60, 100)
    elbo = shrunk(particles, vectorize_particles=mode)
    guide()
    samples = sampling.gradients(elbo, model, guide, ["logits"], calls)
    assert_mean(samples, torch.tensor([7.5] + 5 * [0.75]))


def test_learned_share_leaves_the_mean_as_it_is():
    """By three particles, against the sum over all values."""
    layout = layout_of("plate", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(shrinkage=True), num_particles=3)
    samples = sampling.layout_gradients(elbo, layout, 2000)
    assert_mean(samples, layout.exact_gradient())
    (state,) = elbo.states.values()
    assert 0.05 < state() < 0.95


def of_alike(shift):
    """A plate of 30 data whose costs are alike, but for ``shift`` times a number of each."""
    generator = torch.Generator().manual_seed(0)
    level = shift * torch.randn(30, generator=generator)
    weight = torch.randn(4, generator=generator)

    def guide():
        with pyro.plate("data", 30):
            logits = pyro.param("logits", 0.3 * torch.ones(30, 4))
            pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    def model():
        with pyro.plate("data", 30):
            z = pyro.sample("z", dist.Bernoulli(torch.full((30, 4), 0.5)).to_event(1))
            pyro.factor("f", z @ weight + level)

    return model, guide


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.3, 0.65), (30.0, 0.98, 1.02)])
def test_variance(shift, least, most):
    """With two particles it falls by up to a half if data are alike, and stays if they are not."""
    model, guide = of_alike(shift)
    study = pre.gradient_study(
        model,
        guide,
        estimators={
            "plain": pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=2, max_plate_nesting=1),
            "shrunk": shrunk(2),
        },
        num_draws=1000,
        warmup=100,
    )
    variance = study.summary()["variance"]
    assert least < variance["shrunk"] / variance["plain"] < most


def test_outside_of_plates_it_changes_nothing():
    layout = layout_of("no_plate", "Bernoulli-event")
    found = []
    for shrinkage in (False, True):
        pyro.clear_param_store()
        layout.current()
        torch.manual_seed(0)
        elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(shrinkage=shrinkage), num_particles=3)
        found.append(sampling.layout_gradients(elbo, layout, 3))
    assert found[0].equal(found[1])


def test_shown_with_its_option():
    assert repr(pre.LeaveOneOut()) == "LeaveOneOut()"
    assert repr(pre.LeaveOneOut(shrinkage=True)) == "LeaveOneOut(shrinkage=True)"
