import pytest
import torch

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..statistics import assert_mean
from . import relaxed


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_mean_of_gradient(temperature):
    logit, weight = relaxed.parameters()
    noise, probability = relaxed.logistic_quadrature()
    hard = (logit.detach() + noise > 0).double().requires_grad_()
    loss = (probability * relaxed.cost(hard, logit, weight)).sum()
    slope, direct, exact_weight = torch.autograd.grad(loss, (hard, logit, weight))
    y = ((logit.detach() + noise) / temperature).sigmoid()
    through = (slope * y * (1 - y) / temperature).sum()
    expected = torch.stack([loss.detach(), through + direct, exact_weight])
    estimator = pre.StraightThroughGumbelSoftmax(temperature)
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=2000)
    samples = gradients(elbo, relaxed.model, relaxed.guide, relaxed.NAMES, 25)
    exact = relaxed.exact()
    assert expected[0].item() == pytest.approx(exact[0].item(), rel=1e-3)
    # A step function is known to a node of the quadrature only: take its exact expectation.
    expected[0], expected[2] = exact[0], exact[2]
    assert_mean(samples, expected)
