import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.testing.rejection_gamma import ShapeAugmentedGamma

import pyro_reparam_ext as pre

from ..registry import layout_of
from ..sampling import gradients, layout_gradients
from ..slow import one_in
from ..statistics import assert_mean


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("num_particles", [1, 5])
@pytest.mark.parametrize("layout", ["plate", "nested_plates", "subsampled_plate"])
def test_equals_trace_elbo(layout, num_particles, vectorize):
    layout = layout_of(layout, "Normal")
    rows = []
    for elbo in (pre.TraceEstimator_ELBO, pyro.infer.Trace_ELBO):
        pyro.clear_param_store()
        elbo = elbo(num_particles=num_particles, vectorize_particles=vectorize, max_plate_nesting=2)
        torch.manual_seed(4)
        rows.append(layout_gradients(elbo, layout, 3))
    torch.testing.assert_close(*rows, rtol=1e-9, atol=1e-9)


def test_partly_reparameterised_sampler():
    def guide():
        a = pyro.param("a", torch.tensor(1.5, dtype=torch.float64))
        pyro.sample("z", ShapeAugmentedGamma(a, torch.ones_like(a)))

    def model():
        z = pyro.sample("z", dist.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(3.0, dtype=torch.float64))

    elbo = pre.TraceEstimator_ELBO({"z": pre.Pathwise()}, num_particles=200)
    samples = gradients(elbo, model, guide, ["a"], 40)
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    z = torch.linspace(1e-9, 60, 400_001, dtype=torch.float64)
    log_q = (a - 1) * z.log() - z - torch.lgamma(a)
    log_p = z.log() - z + dist.Normal(z, 1.0).log_prob(torch.tensor(3.0))
    loss = torch.trapezoid(log_q.exp() * (log_q - log_p), z)
    exact = torch.stack([loss, *torch.autograd.grad(loss, a)])
    assert_mean(samples, exact)


def test_straight_through_site():
    """As Trace_ELBO, with the entropy term's parameters held; and no study calls it unbiased."""
    costs = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    straight_through = pre.distributions.StraightThroughOneHotCategorical

    def guide():
        logits = pyro.param("logits", torch.zeros(3, dtype=torch.float64))
        pyro.sample("z", straight_through(0.5, logits=logits))

    def model():
        z = pyro.sample("z", straight_through(0.5, logits=torch.zeros_like(costs)))
        pyro.factor("cost", (z * costs).sum(-1), has_rsample=True)

    rows = []
    for elbo in (pre.TraceEstimator_ELBO({"z": pre.Pathwise()}), pyro.infer.Trace_ELBO()):
        elbo.max_plate_nesting = 0
        torch.manual_seed(4)
        rows.append(gradients(elbo, model, guide, ["logits"], 3))
    torch.testing.assert_close(*rows)
    study = pre.gradient_study(
        model, guide, estimators={"pathwise": pre.Pathwise(), "default": None}, num_draws=10
    )
    assert study.summary()["unbiased"].to_dict() == {"pathwise": False, "default": True}


@pytest.mark.parametrize(
    "fn",
    [
        dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.5), logits=torch.zeros(3)),
        pre.distributions.StraightThroughBernoulli(0.5, logits=torch.zeros(3)).to_event(1),
        pre.distributions.RelaxedBernoulli(0.5, logits=torch.zeros(3), score="discrete"),
        pre.distributions.RelaxedSubset(0.5, torch.zeros(3), 1),
        pre.distributions.PlackettLuce(torch.zeros(3), 0.5, straight_through=True),
    ],
)
def test_is_biased_at(fn):
    assert not pre.Pathwise().is_unbiased_at(fn)


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(0.0, 1.0),
        pre.distributions.RelaxedBernoulli(0.5, logits=torch.zeros(3)),
        pre.distributions.HardConcrete(0.5, logits=torch.zeros(3)),
    ],
)
def test_is_unbiased_at(fn):
    assert pre.Pathwise().is_unbiased_at(fn)


class ByCall(dist.TorchDistribution):
    """A normal that, like flows of other libraries, has a ``__call__`` and no ``rsample``."""

    has_rsample = True
    arg_constraints = {}

    def __init__(self, loc, differentiable=True):
        self.base = dist.Normal(loc, 1.0)
        self.differentiable = differentiable
        super().__init__(self.base.batch_shape, validate_args=False)

    def __call__(self):
        value = self.base.rsample()
        return value if self.differentiable else value.detach()

    def expand(self, batch_shape, _instance=None):
        return ByCall(self.base.loc.expand(batch_shape), self.differentiable)

    def log_prob(self, value):
        return self.base.log_prob(value)


def _upstream_of(make):
    """Programs with a discrete site before the one distributed as ``make`` says."""

    zero, observed = torch.zeros((), dtype=torch.float64), torch.tensor([0.5, 1.0, -1.0]).double()

    def sample(loc, logit):
        k = pyro.sample("k", dist.Bernoulli(logits=logit))
        return pyro.sample("z", make(loc + k))

    def guide():
        loc = pyro.param("loc", zero + 0.3)
        logit = pyro.param("logit", zero.clone())
        with pyro.plate("data", 3):
            sample(loc, logit)

    def model():
        with pyro.plate("data", 3):
            pyro.sample("x", dist.Normal(sample(zero, zero + 0.2), 1.0), obs=observed)

    return model, guide


@pytest.mark.parametrize("options", [{}, {"num_particles": 3}, {"vectorize_particles": False}])
def test_distribution_that_is_drawn_by_its_call(options):
    """As for the distribution that it stands for: the value carries the same gradient."""
    rows = []
    for make in (lambda loc: dist.Normal(loc, 1.0), ByCall):
        pyro.clear_param_store()
        torch.manual_seed(3)
        elbo = pre.TraceEstimator_ELBO({"k": pre.ScoreFunction()}, **options)
        loss = elbo.loss_and_grads(*_upstream_of(make))
        rows.append((loss, pyro.param("loc").grad.item(), pyro.param("logit").grad.item()))
    assert rows[0] == pytest.approx(rows[1])


@pytest.mark.parametrize("options", [{}, {"num_particles": 3}, {"vectorize_particles": False}])
@pytest.mark.parametrize(
    "estimator", one_in(3, [pre.DisARM(), pre.Enumeration(), pre.REBAR()], 1), ids=repr
)
def test_such_a_distribution_downstream_of_alternatives(estimator, options):
    model, guide = _upstream_of(ByCall)
    elbo = pre.TraceEstimator_ELBO({"k": estimator}, **options)
    samples = gradients(elbo, model, guide, ["loc", "logit"], 200)
    loc = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    p, x = logit.sigmoid(), torch.tensor([0.5, 1.0, -1.0]).double()
    errors = p * (x - loc - 1) ** 2 + (1 - p) * (x - loc) ** 2
    of_k = torch.distributions.kl_divergence(
        dist.Bernoulli(p), dist.Bernoulli(logits=torch.tensor(0.2, dtype=torch.float64))
    )
    exact = (errors / 2 + loc**2 / 2 + of_k + 0.5 + 0.5 * math.log(2 * math.pi)).sum()
    assert_mean(samples, torch.stack([exact, *torch.autograd.grad(exact, [loc, logit])]))


def test_such_a_distribution_under_the_score_function():
    model, guide = _upstream_of(ByCall)
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction())
    assert math.isfinite(elbo.loss_and_grads(model, guide))
    assert pyro.param("loc").grad.isfinite()


@pytest.mark.parametrize("options", [{}, {"vectorize_particles": False}])
def test_call_without_a_gradient_is_refused(options):
    model, guide = _upstream_of(lambda loc: ByCall(loc, differentiable=False))
    with pytest.raises(pre.EstimatorError, match="site 'z'.*ByCall.*without a gradient"):
        pre.TraceEstimator_ELBO(**options).loss_and_grads(model, guide)
