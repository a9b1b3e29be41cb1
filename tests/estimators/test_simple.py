"""SIMPLE: its mean by all subsets."""

import math

import pyro
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import ConditionalBernoulli

from ..sampling import gradients
from ..statistics import assert_mean

LOGITS = torch.tensor([0.5, -1.0, 1.5, 0.0], dtype=torch.float64)
TASTE = torch.tensor([0.3, 0.1, 2.0, -0.4], dtype=torch.float64)


def program(cost, prior=None, dtype=torch.float64, logits=LOGITS):
    """A model whose factor is minus the cost, with even subsets as prior, and its guide."""

    def model():
        z = pyro.sample("z", prior or ConditionalBernoulli(2, logits=torch.zeros(4, dtype=dtype)))
        pyro.factor("cost", -cost(z))

    def guide():
        theta = pyro.param("logits", logits.to(dtype).clone())
        pyro.sample("z", ConditionalBernoulli(2, logits=theta))

    return model, guide


def linear(z):
    return z @ TASTE.to(z.dtype)


def quadratic(z):
    return (linear(z) - z[..., 0] * z[..., 3]).square()


def gradient_of(estimator, model, guide):
    pyro.clear_param_store()
    pre.TraceEstimator_ELBO(estimators=estimator).loss_and_grads(model, guide)
    return pyro.get_param_store()._params["logits"].grad


def test_mean_of_gradient():
    """``sum_b q(b) f'(b) d mu``, with the cost of the divergence."""
    z = ConditionalBernoulli(2, logits=LOGITS).enumerate_support().requires_grad_()
    logits = LOGITS.clone().requires_grad_()
    fn = ConditionalBernoulli(2, logits=logits)
    cost = quadratic(z) + (z * LOGITS).sum(-1)
    (slope,) = torch.autograd.grad(cost.sum(), z)
    p = fn.log_prob(z).exp().detach()
    (gradient,) = torch.autograd.grad(fn.marginals @ (p @ slope), logits)
    loss = math.log(6) - fn.entropy() + p @ quadratic(z)
    elbo = pre.TraceEstimator_ELBO(pre.SIMPLE(), num_particles=500)
    assert_mean(gradients(elbo, *program(quadratic), ["logits"], 25), torch.cat([loss[None], gradient]))


def test_exact_where_the_cost_is_linear():
    model, guide = program(linear)
    exact = gradient_of(pre.Enumeration(), model, guide)
    torch.testing.assert_close(gradient_of(pre.SIMPLE(), model, guide), exact)


def test_prior_of_independent_bits():
    """The cost of that is linear, too."""
    prior = pyro.distributions.Bernoulli(logits=TASTE).to_event(1)
    model, guide = program(linear, prior)
    exact = gradient_of(pre.Enumeration(), model, guide)
    torch.testing.assert_close(gradient_of(pre.SIMPLE(), model, guide), exact)


def test_far_out_and_masked():
    """In float32: probabilities of 1e-6 and 1 - 1e-6, and of 0."""
    prior = ConditionalBernoulli(2, logits=torch.tensor([0.0, 0.0, 0.0, -math.inf]))
    for logits in ([13.8, -13.8, 0.0, -math.inf], [math.inf, -13.8, 13.8, -math.inf]):
        logits = torch.tensor(logits)
        model, guide = program(linear, prior, torch.float32, logits)
        found = gradient_of(pre.SIMPLE(), model, guide)
        jacobian = torch.autograd.functional.jacobian(
            lambda x: ConditionalBernoulli(2, logits=x).marginals, logits.double()
        )
        slope = TASTE + torch.where(logits.isinf(), 0.0, logits.double())
        exact = (jacobian.T @ slope).float()
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-9)
