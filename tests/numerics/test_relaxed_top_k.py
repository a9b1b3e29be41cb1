"""The relaxed indicator of the k largest."""

import pytest
import torch

from pyro_reparam_ext.numerics.relaxed_top_k import relaxed_top_k


@pytest.mark.parametrize("temperature", [100.0, 1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_in_the_hull_with_finite_gradients(temperature, scale):
    """In float32, 20 of 1,000."""
    keys = (torch.randn(20, 1000) * scale).requires_grad_()
    value = relaxed_top_k(keys, 20, torch.tensor(temperature))
    assert value.min() >= 0 and value.max() <= 1
    torch.testing.assert_close(value.sum(-1), torch.full((20,), 20.0))
    (gradient,) = torch.autograd.grad((value * torch.randn(1000)).sum(), keys)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_hard_in_the_limit():
    keys = torch.randn(50, 8, dtype=torch.float64)
    keys = keys.argsort(-1).to(keys.dtype)
    hard = torch.zeros_like(keys).scatter(-1, keys.topk(3, -1).indices, 1)
    torch.testing.assert_close(relaxed_top_k(keys, 3, torch.tensor(0.01)), hard)


def test_is_the_iterated_softmax_where_that_takes_no_more_than_all():
    keys = torch.tensor([0.4, 0.1, -0.2, 0.0, 0.3], dtype=torch.float64)
    temperature = torch.tensor(0.7, dtype=torch.float64)
    first = (keys / temperature).softmax(-1)
    second = ((keys + (1 - first).log()) / temperature).softmax(-1)
    value = relaxed_top_k(keys, 2, temperature)
    torch.testing.assert_close(value, first + second, rtol=1e-12, atol=0)


def test_shares_what_it_would_take_too_much():
    keys = torch.tensor([3.0, 0.0, -1.0, -2.0], dtype=torch.float64)
    first = keys.softmax(-1)
    total = first + (keys + (1 - first).log()).softmax(-1)
    assert total[0] > 1.1
    value = relaxed_top_k(keys, 2, torch.tensor(1.0))
    torch.testing.assert_close(value[1:], total[1:] / total[1:].sum())
    assert value[0] == 1


def test_gradient():
    keys = torch.tensor([1.0, 0.2, -0.5, 0.9, 0.1], dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t: relaxed_top_k(s, 3, t), (keys, temperature))
