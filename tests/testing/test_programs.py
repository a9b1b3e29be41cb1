"""Exact values of the programs are those of Pyro's own enumeration."""

import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

from pyro_reparam_ext.testing.families import FAMILIES
from pyro_reparam_ext.testing.programs import PROGRAMS, CostOutside

ONE_HOT = next(family for family in FAMILIES if family.name == "OneHotCategorical")


@pytest.mark.parametrize("cls", PROGRAMS, ids=lambda cls: cls.__name__)
def test_exact_gradient(cls):
    program = cls(ONE_HOT)
    p, elbo = program.leaves(), TraceEnum_ELBO(max_plate_nesting=2)
    loss = elbo.differentiable_loss(program.model, config_enumerate(program.guide), p)
    exact_loss, exact = program.exact_gradient()
    torch.testing.assert_close(loss.detach(), exact_loss)
    gradients = torch.autograd.grad(loss, list(p.values()))
    for name, gradient in zip(p, gradients, strict=True):
        torch.testing.assert_close(gradient, exact[name])


def test_exact_cost_outside():
    """By a sum over both elements of the plate."""
    program = CostOutside(ONE_HOT)
    p, total = program.leaves(), 0.0
    fn = ONE_HOT.make(program.x @ p["guide z"])
    prior = ONE_HOT.make(p["prior of z"])
    for first in torch.eye(3, dtype=torch.float64):
        for second in torch.eye(3, dtype=torch.float64):
            z = torch.stack([first, second])
            loc = torch.stack([_network(x, p["network of z"]) for x in z]).prod()
            log_y = torch.distributions.Normal(loc, 0.8).log_prob(program.y).sum()
            log_q = fn.log_prob(z).sum()
            total = total + log_q.exp() * (log_q - prior.log_prob(z).sum() - log_y)
    torch.testing.assert_close(total, program.exact(p))


def _network(x, weight):
    return 1.5 * torch.tanh(x @ weight).prod() + (x @ weight).sin().sum()
