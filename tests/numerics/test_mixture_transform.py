"""Parts of the distributional transform; the whole of it in test_mixture_same_family.py."""

import torch

from pyro_reparam_ext.numerics.mixture_transform import (
    adjoint,
    choose,
    nearer,
    spread,
    to_back,
    to_front,
)

from ..statistics import assert_mean


def test_components_are_chosen_by_their_weights():
    probs = torch.tensor([[0.2, 0.0, 0.5, 0.3], [0.0, 1.0, 0.0, 0.0]])
    index = choose(probs.log(), torch.Size((50_000, 2)))
    frequencies = torch.nn.functional.one_hot(index, 4).double()
    assert_mean(frequencies.flatten(1), probs.flatten())


def test_dims_to_the_front_and_back():
    x = torch.randn(5, 3, 2)
    front = to_front(x, 2, 2)
    assert front.shape == (3, 2, 1, 5)
    assert to_back(front, 2)[0].equal(x)


def test_spread_has_the_draws_innermost():
    x = torch.randn(7, 2)
    wide = spread(x, 3, 1)
    assert wide.stride() == (1, 14, 7)
    assert wide.equal(x[:, None].expand(7, 3, 2))


def test_the_nearer_tail():
    below, above = torch.tensor([[0.1, 1.0], [0.2, 0.9]]), torch.tensor([[0.9, 0.0], [0.8, 0.1]])
    tail, side = nearer(below, above, torch.tensor([[0.5], [0.5]]))
    assert tail.equal(torch.tensor([[0.1, 0.0], [0.2, 0.1]]))
    assert side.tolist() == [-1, 1]


def test_the_side_of_the_tail_does_not_matter():
    gradient, log_weights = torch.randn(6), torch.randn(3, 1).log_softmax(0)
    log_density, below = torch.randn(3, 6), torch.rand(3, 6)
    given = [
        adjoint(gradient, log_weights, log_density, lambda _: (below, torch.tensor(-1.0))),
        adjoint(gradient, log_weights, log_density, lambda _: (1 - below, torch.tensor(1.0))),
    ]
    torch.testing.assert_close(*given)
    moved, to_log_weights = given[0]
    torch.testing.assert_close(moved.sum(0), gradient)
    torch.testing.assert_close(to_log_weights.sum(0), torch.zeros(6), atol=1e-5, rtol=0)
