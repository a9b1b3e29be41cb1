import pytest
import torch
from torch.distributions import biject_to

from pyro_reparam_ext.distributions.supports.interval import ExtendedInterval

INF = float("inf")
ENDS = [(-1.0, 2.0), (0.5, INF), (-INF, -3.0), (-INF, INF)]


def interval() -> ExtendedInterval:
    return ExtendedInterval(*(torch.tensor(x, dtype=torch.float64) for x in zip(*ENDS, strict=True)))


def test_check():
    inside = torch.tensor([[-1.0, 0.5, -3.0, 1e300], [2.0, 1e9, -1e9, -1e300]])
    assert interval().check(inside.double()).all()
    outside = torch.tensor([-1.1, 0.4, -2.9, float("nan")])
    assert not interval().check(outside).any()


@pytest.mark.parametrize("x", [-12.0, -2.0, 0.0, 0.3, 12.0])
def test_bijection(x):
    transform = biject_to(interval())
    x = torch.full((4,), x, dtype=torch.float64, requires_grad=True)
    y = transform(x)
    assert interval().check(y).all()
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), slope.log(), rtol=1e-8, atol=1e-8)
    back = transform.inv(y)
    torch.testing.assert_close(back, x, rtol=1e-8, atol=1e-8)
    (gradient,) = torch.autograd.grad(back.sum(), x)
    assert gradient.isfinite().all()


def test_equality_and_cache():
    transform = biject_to(interval())
    assert transform == transform.with_cache(1)
    other = ExtendedInterval(torch.zeros(4), torch.ones(4))
    assert transform != biject_to(other)
