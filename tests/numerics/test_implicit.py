"""The autograd function that samplers attach their gradient by."""

import pytest
import torch
from torch.autograd import forward_ad

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


def exponential_of(noise, rate, scale):
    return implicit(noise / rate, lambda value, rate, _: (-value / rate, 0 * value), rate, scale)


@pytest.mark.parametrize("needed", [True, False])
def test_is_one_graph(needed):
    """Whether or not a parameter needs a gradient."""
    torch._dynamo.reset()
    noise, rate = torch.rand(4), torch.tensor(2.0, requires_grad=needed)
    compiled = torch.compile(exponential_of, backend="eager", fullgraph=True)
    value = compiled(noise, rate, torch.ones(()))
    torch.testing.assert_close(value, noise / rate)
    assert value.requires_grad == needed


def test_a_tangent_is_not_lost_in_a_graph():
    """Forward mode is refused as it is without a compiler, also by what was compiled without it."""
    torch._dynamo.reset()
    given = torch.rand(4), torch.tensor(2.0), torch.ones(())
    compiled = torch.compile(exponential_of, backend="eager")
    compiled(*given)
    tangents = tuple(map(torch.ones_like, given))
    for function in (exponential_of, compiled):
        with pytest.raises(NotImplementedError, match="forward mode"):
            torch.func.jvp(function, given, tangents)
        with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode"):
            function(*map(forward_ad.make_dual, given, tangents))
    with pytest.raises(NotImplementedError, match="forward mode"):
        torch.compile(lambda *x: torch.func.jvp(exponential_of, x, tangents), backend="eager")(*given)
