import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.testing.rejection_gamma import ShapeAugmentedGamma

import pyro_reparam_ext as pre

from ..registry import layout_of
from ..sampling import gradients, layout_gradients
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
