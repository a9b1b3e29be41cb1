import pytest
import torch

import pyro_reparam_ext as pre

from .closed_form import Program, assert_same, gradients


@pytest.mark.parametrize("num_particles", [2, 5])
def test_same_seed_closed_form(num_particles):
    program = Program(num_particles)
    elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=num_particles, max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (logits, weight) = program.value(), program.parameters()
    cost = program.cost(z, logits.detach(), weight)
    fixed = cost.detach()
    baseline = torch.stack(
        [fixed[[j for j in range(num_particles) if j != i]].mean(0) for i in range(num_particles)]
    )
    score = (program.log_q(z, logits) * (fixed - baseline)).sum() / num_particles
    assert_same(
        actual,
        torch.autograd.grad(score, logits)[0],
        torch.autograd.grad(cost.sum() / num_particles, weight)[0],
    )
