"""A choice between finite tensors is exact."""

import pytest
import torch

from pyro_reparam_ext.numerics.select import above, select


def test_is_where():
    chosen = torch.randn(200) * 10.0 ** torch.randint(-30, 30, (200,))
    other = torch.randn(200) * 10.0 ** torch.randint(-30, 30, (200,))
    mask = torch.rand(200) < 0.5
    torch.testing.assert_close(
        select(mask, chosen, other), torch.where(mask, chosen, other), rtol=0, atol=0
    )


def test_above():
    inf = float("inf")
    x = torch.tensor([-inf, -1.0, 0.0, 1e-45, 1.0, inf, inf], requires_grad=True)
    bound = torch.tensor([0.0, -1.0, 0.0, 0.0, 0.5, 1.0, inf])
    mask = above(x, bound)
    assert mask.tolist() == (x > bound).tolist() and not mask.requires_grad
    other = torch.zeros_like(x)
    torch.testing.assert_close(select(above(x, 0.5), torch.ones_like(x), other).sum().item(), 3.0)


@pytest.mark.parametrize("bound", [0.5, torch.tensor([0.1, 0.9])])
def test_above_in_vmap(bound):
    x = torch.rand(5, 2)
    mapped = torch.func.vmap(lambda row: above(row, bound))(x)
    assert torch.equal(mapped, (x > bound).float())
