import pytest
import torch

from pyro_reparam_ext.numerics.dirichlet_copula import both_below, others

from ..statistics import assert_follows, assert_mean

DRAWS = 4000


def drawn(count):
    first = torch.rand(DRAWS, dtype=torch.float64)
    return torch.cat([first[None], others(first, count)])


@pytest.mark.parametrize("count", [3, 5])
def test_each_is_uniform(count):
    assert_follows(drawn(count)[-1], lambda x: x)


@pytest.mark.parametrize("count", [3, 4])
def test_two_are_small_at_once_as_often_as_said(count):
    bounds = torch.tensor([0.2, 0.4, 0.5], dtype=torch.float64)
    below = drawn(count).unsqueeze(-1) <= bounds
    first, last = below[0] & below[-1], below[-1] & below[-2]  # with the given one, and without it
    exact = both_below(bounds, count)
    assert_mean(
        torch.cat([first, last], -1).double()[:, exact.repeat(2) > 0], exact[exact > 0].repeat(2)
    )
    assert not first[:, exact == 0].any() and not last[:, exact == 0].any()


def test_two_are_a_uniform_and_what_it_lacks_of_one():
    first = torch.tensor([1e-6, 0.3, 1 - 1e-6])
    torch.testing.assert_close(others(first, 2), 1 - first[None])
    assert (both_below(torch.tensor([0.1, 0.5]), 2) == 0).all()
