"""The gradient of hard values at known noise: for closed forms of straight-through estimators."""

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_reparam_ext.estimators.hard_forward import HardForward

from .closed_form import Program, assert_same, gradients

LOGITS = torch.tensor([0.3, -0.8, 1.1, 0.2], dtype=torch.float64)


def far_towards(index: int, logits: Tensor = LOGITS) -> Tensor:
    """Noise by which a class is drawn."""
    return 50 * torch.eye(len(logits), dtype=logits.dtype)[index]


def one_hot_jacobian(estimator: HardForward, noise: Tensor, logits: Tensor = LOGITS) -> Tensor:
    """The derivative of a one-hot value in its logits."""

    def soft(x: Tensor) -> Tensor:
        base = dist.OneHotCategorical(logits=x)
        return estimator.soft(base, base.logits + noise)

    return torch.autograd.functional.jacobian(soft, logits)


def bernoulli_slope(estimator: HardForward, logits: Tensor, noise: Tensor) -> Tensor:
    """The derivative of each Bernoulli value in its logit."""
    x = logits.clone().requires_grad_()
    return torch.autograd.grad(estimator.soft(dist.Bernoulli(logits=x), x + noise).sum(), x)[0]


def slope_of_softmax(p: Tensor) -> Tensor:
    return torch.diag(p) - torch.outer(p, p)


def assert_elbo(elbo, estimator: HardForward) -> None:
    """The gradient of an ELBO is that of the costs at the hard value, times the value's slope."""
    program = Program()
    logits, weight = program.parameters()
    torch.manual_seed(4)
    noise = torch.rand_like(logits).add(torch.finfo(torch.float64).eps / 8).logit()
    hard = (logits + noise > 0).double().requires_grad_()
    cost = program.cost(hard, logits.detach(), weight).sum()
    by_value, by_weight = torch.autograd.grad(cost, (hard, weight))
    slope = bernoulli_slope(estimator, logits.detach(), noise)
    assert_same(gradients(elbo, program, 4), by_value * slope, by_weight)
