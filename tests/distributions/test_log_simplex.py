"""Logarithms of points of a simplex."""

import torch

from pyro_reparam_ext.distributions.log_simplex import log_rest, log_simplex, normalized


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
