"""Scrambled Sobol points: uniform one by one, balanced together, and never at an end."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import qmc

from pyro_reparam_ext.numerics.sobol import BITS, scrambled_sobol, sobol_points

LIKE = torch.empty(())


def test_the_sequence_is_that_of_scipy():
    engine = qmc.Sobol(5, scramble=False, bits=BITS)
    np.testing.assert_array_equal(sobol_points(8, 5) / 2**BITS, engine.random(8))


@pytest.mark.parametrize("count", [2, 5, 16, 64])
def test_one_point_in_each_stratum(count):
    """A scramble keeps the intervals of a net: of a power of 2, each dim has one point in each part."""
    torch.manual_seed(0)
    points = scrambled_sobol(count, 40, LIKE)
    assert points.shape == (count, 40) and points.dtype == torch.float64
    assert (points > 0).all() and (points < 1).all()
    whole = 1 << (count - 1).bit_length()
    strata = (points * whole).long().sort(0).values
    assert (strata.diff(dim=0) > 0).all()
    if count == whole:
        assert torch.equal(strata, torch.arange(count)[:, None].expand(count, 40))


def test_a_scramble_is_a_matrix_of_bits_and_a_shift(monkeypatch):
    """By the definition, bit by bit, of a matrix with ones on its diagonal and what was drawn below."""
    drawn = torch.randint(0, 2**BITS, (1 + 3, 2), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch, "randint", lambda *size, **options: drawn)
    points = (scrambled_sobol(5, 2, LIKE) * 2**BITS - 0.5).long()

    def bits(number):
        return np.array([int(number) >> (BITS - 1 - i) & 1 for i in range(BITS)])

    sequence = qmc.Sobol(2, scramble=False, bits=BITS).random_base2(3)[:5]
    for dim in range(2):
        matrix = np.eye(BITS, dtype=int)
        for column in range(3):  # of the leading bits, the others are 0
            matrix[column + 1 :, column] = bits(drawn[1 + column, dim])[column + 1 :]
        for x, found in zip(sequence[:, dim], points[:, dim], strict=True):
            expected = (matrix @ bits(round(x * 2**BITS)) + bits(drawn[0, dim])) % 2
            np.testing.assert_array_equal(bits(found), expected)


def test_two_dims_are_balanced_together():
    """Of 16 points of two dims, one in each of 4 by 4 boxes, as of the sequence itself."""
    torch.manual_seed(0)
    for _ in range(20):
        boxes = (scrambled_sobol(16, 2, LIKE) * 4).long()
        assert len({tuple(box) for box in boxes.tolist()}) == 16


def test_each_point_is_uniform():
    """Also that at the origin of the sequence, and two dims of one point are independent."""
    torch.manual_seed(0)
    drawn = torch.stack([scrambled_sobol(4, 3, LIKE) for _ in range(3000)])
    for number in range(4):
        assert stats.kstest(drawn[:, number, 1].numpy(), "uniform").pvalue > 1e-4
    correlation = torch.corrcoef(drawn[:, 0].T)[0, 2]
    assert abs(correlation) < 4 / 3000**0.5
