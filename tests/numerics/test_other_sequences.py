"""Sequences drawn without replacement from a small tree, against all sets of them."""

import itertools

import pytest
import torch

from pyro_reparam_ext.noise import gumbel_like
from pyro_reparam_ext.numerics.other_sequences import FREE, other_sequences

from ..statistics import assert_mean

DOUBLE = torch.float64
FORKS = torch.tensor(
    [
        [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]],
        [[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0]],
    ],
    dtype=DOUBLE,
)
"""The probability of each choice by the step, and the choice before."""
SEQUENCES = torch.tensor(list(itertools.product(range(3), repeat=2)))


def at(forks, sequences):
    """The log probabilities of all choices at each step, shape (..., 2, 3)."""
    before = torch.stack([torch.zeros_like(sequences[..., 0]), sequences[..., 0]], -1)
    return forks.log()[torch.arange(2), before]


def law(forks):
    """``leaving`` and ``complete``, in the plainest form."""

    def leaving(sequence):
        found = at(forks, sequence)
        own = found.gather(-1, sequence.unsqueeze(-1))
        path = (own.cumsum(-2) - own).expand(found.shape)
        return torch.where(own.isneginf() | path.isneginf(), -torch.inf, found + path).scatter(
            -1, sequence.unsqueeze(-1), -torch.inf
        )

    def complete(sequence):
        for step in range(2):
            here = at(forks, sequence.clamp(min=0))[..., step, :]
            drawn = (here + gumbel_like(here)).argmax(-1)
            free = (torch.arange(2) == step) & (sequence == FREE)
            sequence = torch.where(free, drawn.unsqueeze(-1), sequence)
        return sequence

    return leaving, complete


def numbers(sequences):
    return sequences[..., 0] * 3 + sequences[..., 1]


def probabilities(forks):
    return at(forks, SEQUENCES).gather(-1, SEQUENCES.unsqueeze(-1)).sum((-1, -2)).exp()


def drawn(first, count, forks=FORKS, batch=20_000):
    return other_sequences(torch.tensor(first).expand(batch, 2), *law(forks), count)


@pytest.mark.parametrize("first", [[0, 0], [1, 2]])
def test_frequencies_of_ordered_pairs(first):
    """One after another, each by its share in what is left."""
    others = drawn(first, 2)
    p = probabilities(FORKS)
    p[numbers(torch.tensor(first))] = 0
    p = p / p.sum()
    pairs = p[:, None] * p / (1 - p[:, None])
    pairs.fill_diagonal_(0)
    kept = pairs.flatten() > 0
    one, two = numbers(others.values)
    indicators = (one * 9 + two)[:, None] == torch.arange(81)
    assert others.possible.all() and not indicators[:, ~kept].any()
    assert_mean(indicators[:, kept].double(), pairs.flatten()[kept])
    found = torch.stack([one, two, numbers(torch.tensor(first)).expand(one.shape)])
    outside = 1 - probabilities(FORKS)[found].sum(0)
    torch.testing.assert_close(others.log_outside.exp(), outside)


@pytest.mark.parametrize("count", [5, 8])
def test_all_are_drawn(count):
    """Six of nine sequences are possible; where there are no more, one of them comes again."""
    others = drawn([1, 2], count, batch=50)
    found = numbers(torch.cat([torch.tensor([1, 2]).expand(1, 50, 2), others.values]))
    assert (others.possible == (torch.arange(count) < 5)[:, None]).all()
    assert (found[:6].sort(0).values == probabilities(FORKS).nonzero()).all()
    assert (probabilities(FORKS)[found] > 0).all()
    assert others.log_outside.isneginf().all()


def test_one_sequence_has_nearly_all_probability():
    """In float32, whose 1 - p would be 0."""
    rare = torch.tensor([[1.0, 2e-12, 1e-12]]).expand(2, 3, 3)
    others = drawn([0, 0], 1, rare, batch=20_000)
    frequent = numbers(others.values[0])[:, None] == torch.tensor([1, 2, 3, 6])
    assert_mean(frequent.double(), torch.tensor([2.0, 1.0, 2.0, 1.0]) / 6)
    left = 6e-12 - rare[0, 0, frequent.double().argmax(-1) % 2 + 1]
    torch.testing.assert_close(others.log_outside.exp(), left, rtol=1e-5, atol=0)
