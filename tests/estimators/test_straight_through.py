import torch

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..statistics import assert_mean
from . import relaxed


def test_mean_of_gradient():
    """``sum_b q(b) f'(b) dp/dlogit``, and the derivative of the cost in its parameters."""
    logit, weight = relaxed.parameters()
    z = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    probs = relaxed.discrete_log_prob(z, logit).exp().detach()
    loss = (probs * relaxed.cost(z, logit, weight)).sum()
    slope, direct, exact_weight = torch.autograd.grad(loss, (z, logit, weight))
    p = logit.detach().sigmoid()
    expected = torch.stack([loss.detach(), slope.sum() * p * (1 - p) + direct, exact_weight])
    elbo = pre.TraceEstimator_ELBO(pre.StraightThrough(), num_particles=1000)
    samples = gradients(elbo, relaxed.model, relaxed.guide, relaxed.NAMES, 25)
    assert_mean(samples, expected)
