"""The coordinates that are watched."""

import pytest
import torch

from pyro_reparam_ext.convergence.coordinates import labels, watched


@pytest.mark.parametrize(
    "sizes", [[1], [3, 1, 7], [100_000, 2], [50, 60, 70], [200] * 99, [7] * 101, [1] * 1000, [0, 4]]
)
def test_they_are_bounded_and_spread(sizes):
    places = watched(sizes)
    shares = [len(own) for own in places]
    assert sum(shares) == min(sum(sizes), 100) or (len(sizes) > 1 and 90 <= sum(shares) <= 100)
    for size, own in zip(sizes, places, strict=True):
        assert len(set(own.tolist())) == len(own) <= size
        assert all(0 <= place < size for place in own)
    if len(sizes) <= 100:
        assert all(share > 0 for share, size in zip(shares, sizes, strict=True) if size)


def test_their_names():
    params = {"a": torch.tensor(0.0), "b": torch.zeros(2, 3)}
    places = [torch.tensor([0]), torch.tensor([0, 5])]
    assert labels(params, places) == ["a", "b[0, 0]", "b[1, 2]"]
    assert labels(params, [places[0][:0], places[1]]) == ["b[0, 0]", "b[1, 2]"]
