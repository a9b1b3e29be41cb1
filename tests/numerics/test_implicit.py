"""The autograd function that samplers attach their gradient by."""

import torch

from pyro_reparam_ext.numerics.implicit import implicit, implicit_joint


def exponential_velocity(value, rate):
    return (-value / rate,)


def test_gradient_of_every_order():
    """x = e / rate: the velocity is -x / rate, its derivative along the sample 2 x / rate^2."""
    rate = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    noise = torch.rand(4, 2, dtype=torch.float64)
    value = implicit((noise / rate).detach(), exponential_velocity, rate)
    reference = noise / rate
    torch.testing.assert_close(value, reference, rtol=0, atol=0)
    for _ in range(3):
        (value,) = torch.autograd.grad((value**2).sum(), rate, create_graph=True)
        (reference,) = torch.autograd.grad((reference**2).sum(), rate, create_graph=True)
        torch.testing.assert_close(value, reference)


def test_sums_over_the_dims_that_a_parameter_lacks():
    rate = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    implicit(torch.ones(5, 3, 2, dtype=torch.float64), exponential_velocity, rate).sum().backward()
    assert rate.grad.flatten().tolist() == [-10.0] * 3


def test_joint_pull_back():
    loc = torch.zeros(2, requires_grad=True)
    x = implicit_joint(torch.ones(4, 2), lambda g, x, loc: (g.flip(-1),), loc)
    (x * torch.tensor([1.0, 10.0])).sum().backward()
    assert loc.grad.tolist() == [40.0, 4.0]
