"""Places along the dims of evaluations, enumerated sites and particles."""

import pytest
import torch

from pyro_reparam_ext.errors import CannotVectorize
from pyro_reparam_ext.evaluation.place import Place, some_indices

PLACE = Place(shape=(5, 3), index=(4, 1), plates=1)
X = torch.arange(5 * 3 * 2 * 7).reshape(5, 3, 2, 7)


@pytest.mark.parametrize(
    ("x", "events", "expected"),
    [
        (X, 1, X[4, 1]),
        (X[:, :1], 1, X[4, 0]),  # of size 1: the same for all
        (X[0], 1, X[0, 1]),  # without evaluations
        (X[0, 0], 1, X[0, 0]),
        (X[..., 0], 0, X[4, 1, :, 0]),
        (X[0, 0, 0], 2, X[0, 0, 0]),
    ],
)
def test_what_is_there(x, events, expected):
    assert torch.equal(PLACE.of(x, events, "it"), expected)


@pytest.mark.parametrize("x", [X[:4], X[:, :2], X[None]], ids=["evaluations", "particles", "too many"])
def test_other_dims_raise(x):
    with pytest.raises(CannotVectorize, match=r"^it has shape.*1 dims of plates.*\[5, 3\]"):
        PLACE.of(x, 1, "it")


def test_some_indices():
    everything = {(i, j) for i in range(5) for j in range(3)}
    assert set(some_indices((5, 3), 15)) == everything
    few = list(some_indices((5, 3), 4))
    assert len(set(few)) == 4 and set(few) <= everything
    assert list(some_indices((), 3)) == [()]
