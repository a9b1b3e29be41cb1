"""Values to differentiate in: they need a gradient where another does, and hand none on to it."""

import torch

from pyro_reparam_ext.numerics.leaf import leaf


def test_no_gradient_is_handed_on():
    beside = torch.tensor([1.0, 2.0], requires_grad=True)
    value = leaf(torch.tensor([3.0, -1.0]), beside)
    assert value.tolist() == [3.0, -1.0]
    (slope,) = torch.autograd.grad(value.square().sum(), value, retain_graph=True)
    assert slope.tolist() == [6.0, -2.0]
    (value * torch.tensor([float("nan"), float("inf")])).sum().backward()
    assert beside.grad.tolist() == [0.0, 0.0]


def test_it_requires_a_gradient_where_the_other_does():
    assert not leaf(torch.ones(2), torch.ones(2)).requires_grad
    assert leaf(torch.ones(2), torch.ones(2, requires_grad=True)).requires_grad


def test_under_vmap():
    x = torch.randn(3, 2)
    squares = torch.func.vmap(torch.func.grad(lambda row: leaf(row, row).square().sum()))(x)
    assert (squares == 0).all()
