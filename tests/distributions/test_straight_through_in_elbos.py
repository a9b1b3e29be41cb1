"""How Pyro's wrappers and ELBOs, and the estimators, take both straight-through distributions."""

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.default import default_estimator
from pyro_reparam_ext.noise import NoiseSource

from .mixins.test_straight_through import DISCRETE, both, leaf, make
from .registry import RELAXED
from .relaxed import logits_of


@both
@pytest.mark.parametrize(
    "wrap", ["plain", "to_event", "to_event twice", "mask", "mask(True)", "expand"]
)
def test_entropy_term_holds_the_parameters(name, wrap):
    logits = leaf(name, 2, 3)
    fn = make(name, logits)
    fn = {
        "plain": lambda: fn,
        "to_event": lambda: fn.to_event(1).mask(True),
        "to_event twice": lambda: fn.to_event(1).to_event(1),
        "mask": lambda: fn.to_event(1).mask(torch.tensor([True, False])),
        "mask(True)": lambda: fn.mask(True).to_event(2),
        "expand": lambda: fn.to_event(1).expand((4, 2)),
    }[wrap]()
    value = fn.rsample()
    parts = fn.score_parts(value)
    torch.testing.assert_close(parts.log_prob, fn.log_prob(value))
    torch.testing.assert_close(parts.entropy_term, parts.log_prob)
    assert isinstance(parts.score_function, int) and parts.score_function == 0
    fixed = value.detach().requires_grad_()
    (in_parameters,) = torch.autograd.grad(
        fn.score_parts(fixed).entropy_term.sum(), logits, allow_unused=True
    )
    assert in_parameters is None
    (in_value,) = torch.autograd.grad(fn.score_parts(fixed).entropy_term.sum(), fixed)
    (expected,) = torch.autograd.grad(fn.log_prob(fixed).sum(), fixed)
    torch.testing.assert_close(in_value, expected)


@both
def test_value_without_a_gradient_is_scored_as_a_discrete_one(name):
    logits = leaf(name)
    fn = make(name, logits)
    for value in (fn.enumerate_support(), fn.sample()):
        parts = fn.score_parts(value)
        assert parts.score_function is parts.log_prob
        assert isinstance(parts.entropy_term, int) and parts.entropy_term == 0


def program(name, costs=None):
    """A model and a guide; ``costs`` of the classes, linear in the value."""
    event = RELAXED[name].event
    costs = logits_of((2, *event)) * 2 if costs is None else costs

    def model():
        with pyro.plate("plate", 2):
            z = pyro.sample("z", make(name, 0.3 * leaf(name).detach()).expand([2]))
            cost = z * costs
            pyro.factor("cost", cost.sum(-1) if event else cost, has_rsample=True)

    def guide():
        logits = pyro.param("logits", lambda: leaf(name, 2).detach())
        with pyro.plate("plate", 2):
            pyro.sample("z", make(name, logits))

    return model, guide


def gradient(elbo, model, guide, seed=0):
    guide()
    pyro.param("logits").grad = None
    torch.manual_seed(seed)
    loss = elbo.loss_and_grads(model, guide)
    return torch.tensor(loss), pyro.param("logits").grad


@both
@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO])
def test_gradient_of_pyros_elbos_in_closed_form(name, elbo):
    """The same seed: log q - log p is linear in the value, with the guide's slope held."""
    model, guide = program(name)
    guide()
    logits = pyro.param("logits").detach().requires_grad_()
    _, found = gradient(elbo(), model, guide, seed=5)
    torch.manual_seed(5)
    fn = make(name, logits)
    z = fn.rsample()
    prior = make(name, 0.3 * leaf(name).detach())
    cost = fn.score_parts(z).entropy_term - prior.log_prob(z)
    loss = cost.sum() - (z * logits_of((2, *RELAXED[name].event)) * 2).sum()
    torch.testing.assert_close(found, torch.autograd.grad(loss, logits)[0])


@both
def test_no_variance_at_the_optimum(name):
    """Linear costs: where log q - log p is constant, the gradient is zero for each draw."""
    costs = logits_of((2, *RELAXED[name].event)) - 0.3 * leaf(name).detach()
    model, guide = program(name, costs)
    pyro.param("logits", leaf(name, 2).detach())
    for seed in range(5):
        _, found = gradient(Trace_ELBO(), model, guide, seed)
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_enumeration_is_that_of_the_discrete_distribution(name, how):
    logits, event = leaf(name), RELAXED[name].event
    costs = 2 * logits_of(event).cos()

    def losses(cls):
        def model():
            z = pyro.sample("z", cls(0.3 * logits.detach()))
            pyro.factor("cost", (z * costs).sum(-1) if event else z * costs, has_rsample=True)

        def guide():
            pyro.sample("z", cls(logits), infer={"enumerate": how})

        loss = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(model, guide)
        return loss, *torch.autograd.grad(loss, logits)

    found = losses(lambda logits: make(name, logits))
    expected = losses(lambda logits: DISCRETE[name](logits=logits))
    torch.testing.assert_close(found, expected)
    assert (found[1] != 0).any()


@both
def test_enumerated_loss_without_gradient(name):
    model, _ = program(name)

    def guide():
        with pyro.plate("plate", 2):
            pyro.sample("z", make(name, leaf(name, 2).detach()), infer={"enumerate": "parallel"})

    q, p = make(name, leaf(name, 2).detach()), make(name, 0.3 * leaf(name).detach())
    exact = kl_divergence(q, p).sum() - (q.mean * logits_of((2, *RELAXED[name].event)) * 2).sum()
    with torch.no_grad():
        assert abs(TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide) - exact) < 1e-6


@both
def test_mean_field_elbo_is_exact(name):
    """It takes the KL divergence in closed form, also without a gradient."""
    event = RELAXED[name].event
    model, guide = program(name, torch.zeros((2, *event), dtype=torch.float64))
    q = make(name, leaf(name, 2))
    kl = kl_divergence(q, make(name, 0.3 * leaf(name).detach())).sum()
    loss, found = gradient(TraceMeanField_ELBO(), model, guide)
    torch.testing.assert_close(loss.double(), kl.detach(), rtol=1e-5, atol=1e-6)
    assert found.isfinite().all()
    with torch.no_grad():
        assert abs(TraceMeanField_ELBO().loss(model, guide) - kl) < 1e-6


@both
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_kl_divergence(name, first, second):
    p_logits, q_logits = leaf(name, 3).detach(), 0.5 * leaf(name, 3).detach().cos()
    p = make(name, p_logits) if first else DISCRETE[name](logits=p_logits)
    q = make(name, q_logits) if second else DISCRETE[name](logits=q_logits)
    values = p.enumerate_support()
    p_log, q_log = p.log_prob(values), q.log_prob(values)
    expected = (p_log.exp() * (p_log - q_log)).sum(0)
    torch.testing.assert_close(kl_divergence(p, q), expected)
    torch.testing.assert_close(kl_divergence(p.to_event(1), q.to_event(1)), expected.sum())


@both
def test_default_estimator_is_unbiased(name):
    for fn in (make(name, leaf(name, 2)), make(name, leaf(name, 2)).to_event(1).mask(True)):
        assert isinstance(default_estimator(fn, NoiseSource()), pre.ScoreFunction)
        assert isinstance(default_estimator(fn, NoiseSource(2)), pre.LeaveOneOut)


@both
def test_unbiased_estimators_serve_it(name):
    """By enumeration, against the plain discrete distribution."""
    model, guide = program(name)
    loss, found = gradient(pre.TraceEstimator_ELBO(pre.Enumeration()), model, guide)
    logits = pyro.param("logits").detach().requires_grad_()
    q = make(name, logits)
    p = make(name, 0.3 * leaf(name).detach())
    costs = q.mean * logits_of((2, *RELAXED[name].event)) * 2
    exact = kl_divergence(q, p).sum() - costs.sum()
    torch.testing.assert_close(loss.double(), exact.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, torch.autograd.grad(exact, logits)[0])
