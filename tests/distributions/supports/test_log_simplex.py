"""Logarithms of points of a simplex."""

import pytest
import torch
from torch.distributions import biject_to, transform_to

from pyro_reparam_ext.distributions.supports.log_simplex import log_simplex
from pyro_reparam_ext.numerics.log_simplex import log_rest, normalized


def test_a_component_close_to_one_keeps_its_distance():
    x = normalized(torch.tensor([[0.0], [-50.0], [-60.0]]))[:, 0]
    rest = torch.tensor([-50.0, -60.0]).exp().sum()
    torch.testing.assert_close(x, torch.tensor([-rest, -50.0, -60.0]), rtol=1e-6, atol=0)


def test_normalized_elsewhere_is_log_softmax():
    x = torch.randn(5, 100, dtype=torch.float64)
    torch.testing.assert_close(normalized(x), x.log_softmax(0))
    torch.testing.assert_close(normalized(x).exp().sum(0), torch.ones(100).double())


def test_equal_components():
    x = normalized(torch.zeros(4, 1))
    torch.testing.assert_close(x, torch.full((4, 1), 0.25).log())


def test_log_rest():
    x = normalized(torch.randn(4, 50, dtype=torch.float64))
    torch.testing.assert_close(log_rest(x), (1 - x.exp()).log())
    # Beyond what the largest component can tell.
    far = normalized(torch.tensor([[0.0], [-1000.0]]))
    torch.testing.assert_close(log_rest(far)[:, 0], torch.tensor([-1000.0, 0.0]))


def test_constraint():
    inside = normalized(torch.randn(3, 4)).T
    assert log_simplex.check(inside).all()
    assert not log_simplex.check(inside + 1e-3).any()
    assert not log_simplex.check(torch.full((4, 3), torch.nan)).any()


@pytest.mark.parametrize("size", [2, 3, 50])
def test_transform_round_trip(size):
    transform = biject_to(log_simplex)
    x = 3 * torch.randn(20, size - 1)
    y = transform(x)
    assert y.shape == transform.forward_shape(x.shape) and transform.inverse_shape(y.shape) == x.shape
    assert log_simplex.check(y).all()
    torch.testing.assert_close(transform.inv(y), x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transform(torch.zeros(size - 1)).exp(), torch.full((size,), 1 / size))


def test_transform_keeps_what_underflows():
    x = torch.tensor([-300.0, 200.0, -1000.0])
    transform = transform_to(log_simplex)
    torch.testing.assert_close(transform.inv(transform(x)), x)


def test_transform_jacobian():
    x = torch.randn(4, dtype=torch.float64)
    transform = biject_to(log_simplex)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x)[:-1], x)
    ours = transform.log_abs_det_jacobian(x, transform(x))
    torch.testing.assert_close(ours, torch.linalg.slogdet(jacobian)[1])


def test_transforms_are_equal():
    assert biject_to(log_simplex) == transform_to(log_simplex)
    assert repr(log_simplex) == "LogSimplex()" and repr(biject_to(log_simplex)) == "LogStickBreaking()"
