import pyro
import pyro.distributions as dist
import torch

import pyro_reparam_ext as pre

from ..sampling import gradients as rows_of_gradients
from .closed_form import Program, assert_same, gradients
from .samples import at_the_ends


def test_same_seed_closed_form():
    program = Program()
    actual = gradients(pre.TraceEstimator_ELBO(pre.MuProp(), max_plate_nesting=1), program, seed=5)
    torch.manual_seed(5)
    b, (logits, weight) = program.value(), program.parameters()
    alpha, fixed = logits.detach(), weight.detach()
    mean = logits.sigmoid().detach().requires_grad_()
    expanded = program.cost(mean, alpha, fixed)
    (slope,) = torch.autograd.grad(expanded.sum(), mean)
    cost = program.cost(b, alpha, weight)
    remainder = cost - expanded - (slope * (b - mean)).sum(-1)
    loss = remainder.detach() * program.log_q(b, logits) + (slope * logits.sigmoid()).sum(-1)
    assert_same(
        actual,
        torch.autograd.grad(loss.sum(), logits)[0],
        torch.autograd.grad(cost.sum(), weight)[0],
    )


def test_exact_where_costs_are_linear_also_near_0_and_1():
    found, exact = at_the_ends(pre.TraceEstimator_ELBO(pre.MuProp()), 3)
    torch.testing.assert_close(found, exact.expand_as(found), rtol=1e-3, atol=0)


def test_expands_at_the_means_of_sites_downstream():
    """A chain whose costs are linear in both means: no noise of the second site is in the slope."""
    seen = []

    def guide():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))
        pyro.sample("w", dist.Bernoulli(0.2 + 0.5 * z))

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.5))
        w = pyro.sample("w", dist.Bernoulli(0.2 + 0.5 * z))
        seen.append(w)
        pyro.factor("cost", w)

    elbo = pre.TraceEstimator_ELBO(pre.MuProp(), max_plate_nesting=0)
    rows_of_gradients(elbo, model, guide, ["logit"], 1)
    means = torch.tensor(0.2) + 0.5 * torch.tensor(0.4).sigmoid()
    assert any(torch.isclose(w, means).any() for w in seen)


def test_a_site_downstream_that_has_no_mean_keeps_its_noise():
    """Which REBAR refuses: the slopes of a linear control variate need not be those of the costs."""

    def guide():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))
        pyro.sample("k", dist.Poisson(1.0 + z))

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("k", dist.Poisson(1.0 + z))

    elbo = pre.TraceEstimator_ELBO({"z": pre.MuProp()}, max_plate_nesting=0)
    assert rows_of_gradients(elbo, model, guide, ["logit"], 2).isfinite().all()


def test_trains_upstream_of_a_sampler_with_one_derivative():
    """Nothing learns from the slope, so that Gamma of torch downstream will do."""

    def guide():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))
        pyro.sample("w", dist.Gamma(1.0 + z, 1.0))

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.5))
        w = pyro.sample("w", dist.Gamma(1.0 + z, 1.0))
        pyro.sample("y", dist.Normal(w, 1.0), obs=torch.tensor(1.0))

    for estimator in (pre.MuProp(), pre.DoubleCV()):
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO({"z": estimator}, max_plate_nesting=0)
        assert rows_of_gradients(elbo, model, guide, ["logit"], 2).isfinite().all()
