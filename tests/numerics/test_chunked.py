"""Pieces make the whole."""

import pytest
import torch

from pyro_reparam_ext.numerics.chunked import PIECE, chunked


@pytest.mark.parametrize("shape", [(5,), (2 * PIECE + 1,), (PIECE, 3), (3, PIECE)])
@pytest.mark.parametrize("split", [False, True])
def test_is_the_function(shape, split):
    value = torch.randn(shape)
    others = torch.randn(shape if split else shape[1:]), torch.randn((1,) * len(shape))
    seen = []

    def function(x, a, b):
        seen.append(x.shape)
        return x * a + b

    torch.testing.assert_close(chunked(function, value, *others), value * others[0] + others[1])
    assert (len(seen) > 1) == (value.numel() > PIECE and shape[0] > 1)


def test_several_results():
    value = torch.randn(2 * PIECE, 2)
    twice, ends = chunked(lambda x: (2 * x, x[:, 1]), value)
    assert torch.equal(twice, 2 * value) and torch.equal(ends, value[:, 1])
