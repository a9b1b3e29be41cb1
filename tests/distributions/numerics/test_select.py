"""A choice between finite tensors is exact."""

import torch

from pyro_reparam_ext.distributions.numerics.select import select


def test_is_where():
    chosen = torch.randn(200) * 10.0 ** torch.randint(-30, 30, (200,))
    other = torch.randn(200) * 10.0 ** torch.randint(-30, 30, (200,))
    mask = torch.rand(200) < 0.5
    torch.testing.assert_close(
        select(mask, chosen, other), torch.where(mask, chosen, other), rtol=0, atol=0
    )
