"""Sums of pieces make the sum of the whole."""

import pytest
import torch

from pyro_reparam_ext.numerics.chunked import PIECE
from pyro_reparam_ext.numerics.chunked_sums import chunked_sums


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((5,), ()),
        ((), ()),
        ((2 * PIECE + 1,), ()),
        ((2 * PIECE + 1,), (1,)),
        ((PIECE, 3), (3,)),
        ((PIECE, 3), (1, 3)),
        ((PIECE, 3), (PIECE, 3)),
        ((PIECE, 3), (PIECE, 1)),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_is_the_sum(shape, target, recorded):
    value = torch.randn(shape, dtype=torch.float64)
    other = torch.randn(shape, dtype=torch.float64)
    scale = torch.randn(target, dtype=torch.float64)
    seen = []

    def function(x, y, s):
        seen.append(x.shape)
        return x * y * s, x + s

    with torch.set_grad_enabled(recorded):
        results = chunked_sums(function, torch.Size(target), value, other, scale)
    for mine, exact in zip(results, (value * other * scale, value + scale), strict=True):
        torch.testing.assert_close(mine, exact.sum_to_size(target))
    over_rows = len(target) < len(shape) or target[:1] == (1,)
    assert (len(seen) > 1) == (value.numel() > PIECE and over_rows and not recorded)
