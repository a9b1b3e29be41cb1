"""The windows that may be averaged, and their means."""

import pytest
import torch

from pyro_reparam_ext.convergence.windows import BLOCKS, BlockMeans, block_length, starts


@pytest.mark.parametrize("rows", [25, 80, 81, 399, 640, 641, 1000])
def test_means_of_all_windows(rows):
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)).double().cumsum(0)
    means = BlockMeans()
    for part in x.split(10):
        means.add(part.mean(0), len(part))
    for first in [0, *starts(rows)]:
        mean, count = means.last(rows - first)
        assert count == rows - first
        torch.testing.assert_close(mean, x[first:].mean(0))


def test_a_window_between_blocks_begins_with_the_nearest():
    means = BlockMeans()
    for row in range(8):
        means.add(torch.tensor([float(row)]), 10)
    assert means.last(37)[1] == 40


@pytest.mark.parametrize("rows", range(20, 5000, 371))
def test_windows_are_half_of_the_run_at_least(rows):
    found = starts(rows)
    assert found
    assert all(0 < first <= rows / 2 for first in found)
    assert rows / block_length(rows) <= BLOCKS


def test_a_run_of_one_block_has_no_window():
    assert starts(19) == []
