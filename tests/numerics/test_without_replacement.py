"""The law of an unordered sample, by all orders in which it may have been drawn."""

from itertools import permutations

import pytest
import torch

from pyro_reparam_ext.numerics.without_replacement import first_and_second

PROBS = torch.tensor([0.45, 1e-9, 0.35, 0.15, 0.05], dtype=torch.float64)
PROBS = PROBS / PROBS.sum()


def of_order(order):
    """The probability of classes in this order."""
    left = [i for i in range(len(PROBS))]
    total = PROBS.new_ones(())
    for number in order:
        total = total * PROBS[number] / PROBS[left].sum()
        left.remove(number)
    return total


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_all_orders(k):
    outside = PROBS[k:].sum().log()
    first, second = first_and_second(PROBS[:k].log(), outside)
    pairs = PROBS.new_zeros(k, k)
    for order in permutations(range(k)):
        pairs[order[0], order[1]] += of_order(order)
    torch.testing.assert_close(first, pairs.sum(1) / pairs.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(second, pairs / pairs.sum(1, keepdim=True), rtol=1e-12, atol=0)


def test_a_whole_support_has_its_own_probabilities():
    first, second = first_and_second(PROBS.log(), torch.tensor(-torch.inf, dtype=torch.float64))
    torch.testing.assert_close(first, PROBS, rtol=1e-12, atol=0)
    expected = PROBS / (1 - PROBS[:, None]) * (1 - torch.eye(5))
    torch.testing.assert_close(second, expected, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("rare", [1e-6, 1e-30])
def test_float32_of_rare_classes(rare):
    """One class has nearly all of the probability, and the others come in any order."""
    log_probs = torch.tensor([1.0, rare, rare]).log()
    first, second = first_and_second(log_probs, torch.tensor(2 * rare).log())
    # Given that the first class is not drawn first, it is drawn second.
    torch.testing.assert_close(first[1:] / rare, torch.tensor([0.5 * 4, 0.5 * 4]), rtol=1e-5, atol=0)
    torch.testing.assert_close(second[0], torch.tensor([0.0, 0.5, 0.5]))
    torch.testing.assert_close(second[1], torch.tensor([1.0, 0.0, 3 * rare]), rtol=1e-5, atol=0)


def test_impossible_classes():
    log_probs = torch.tensor([0.25, 0.75, 0.0]).log()
    first, second = first_and_second(log_probs, torch.tensor(-torch.inf))
    torch.testing.assert_close(first, torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(second[:2], torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    first, second = first_and_second(torch.tensor([0.0, -torch.inf]), torch.tensor(-torch.inf))
    assert first.tolist() == [1.0, 0.0] and second[0].tolist() == [0.0, 0.0]
