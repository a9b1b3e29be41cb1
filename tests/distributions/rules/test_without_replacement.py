"""Values drawn without replacement, by the distributions that have a rule for it."""

import math

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.without_replacement import classes, without_replacement

from ...statistics import assert_mean

Subset, Order = pre.distributions.ConditionalBernoulli, pre.distributions.PlackettLuce
DOUBLE = torch.float64
INF = math.inf
SKEW = torch.tensor([0.9, -0.5, 1.4, 0.2], dtype=DOUBLE)
CASES = {
    "Categorical": dist.Categorical(logits=SKEW),
    "OneHotCategorical": dist.OneHotCategorical(logits=SKEW),
    "subset": Subset(2, logits=SKEW),
    "subset of possible items": Subset(3, logits=torch.cat([SKEW, torch.tensor([INF, -INF])])),
    "order": Order(SKEW[:3]),
}


def support(fn):
    """All possible values, and their probabilities."""
    values = fn.enumerate_support()
    probs = fn.log_prob(values).exp()
    return values[probs > 0], probs[probs > 0]


def drawn(fn, count, batch):
    """The numbers of a value and of the others in the support, the possible ones, and the rest."""
    fn = fn.expand((batch,))
    value = fn.sample()
    found = without_replacement(fn).others(fn, value, count)
    assert found.values.dtype == value.dtype
    return torch.cat([value[None], found.values]), found


def number_of(fn, values):
    every, event_dim = support(fn)[0], len(fn.event_shape)
    same = values.unsqueeze(-1 - event_dim) == every
    return (same.flatten(-event_dim).all(-1) if event_dim else same).double().argmax(-1)


def test_every_rule_is_tried():
    assert {next(c for c in classes() if isinstance(fn, c)) for fn in CASES.values()} == set(classes())


@pytest.mark.parametrize("name", CASES)
def test_frequencies(name):
    """Of the value and the first of the others; the rest of the probability is what lies outside."""
    fn = CASES[name]
    values, others = drawn(fn, 2, 20_000)
    p = support(fn)[1]
    pairs = p[:, None] * p / (1 - p[:, None])
    one, two, three = number_of(fn, values)
    indicators = (one * len(p) + two)[:, None] == torch.arange(len(p) ** 2)
    assert others.possible.all() and ((one != two) & (one != three) & (two != three)).all()
    assert_mean(indicators.double(), pairs.fill_diagonal_(0).flatten())
    torch.testing.assert_close(others.log_outside.exp(), 1 - p[one] - p[two] - p[three])


@pytest.mark.parametrize("name", CASES)
def test_the_whole_support(name):
    fn = CASES[name]
    number = len(support(fn)[1])
    count = min(without_replacement(fn).size(fn), number + 2) - 1
    values, others = drawn(fn, count, 30)
    found = number_of(fn, values).sort(0).values
    assert (others.possible == (torch.arange(count) < number - 1)[:, None]).all()
    assert others.log_outside.isneginf().all()
    if count < number:
        assert (found == torch.arange(number)[:, None]).all()
    assert (fn.log_prob(values) > -INF).all()


MANY = [
    (Subset(7, logits=3 * torch.sin(torch.arange(20.0))), math.comb(20, 7)),
    (Order(torch.zeros(50)), math.factorial(50)),
]


@pytest.mark.parametrize(("fn", "size"), MANY, ids=["subset", "order"])
def test_of_many_values(fn, size):
    """All different, each of the support, also under vmap."""
    assert without_replacement(fn).size(fn) == size
    values, others = drawn(fn, 11, 5)
    flat = values.flatten(2)
    assert ((flat[:, None] != flat).any(-1).sum(1) == 11).all()
    assert fn.support.check(values).all()
    torch.testing.assert_close(
        others.log_outside.exp(), 1 - fn.log_prob(values).exp().sum(0), rtol=1e-5, atol=1e-5
    )
    rule = without_replacement(fn)
    mapped = torch.func.vmap(lambda value: rule.others(fn, value, 3).values, randomness="different")
    assert fn.support.check(mapped(values[0])).all()


def test_relaxed_orders_have_no_rule():
    assert without_replacement(Order(SKEW, 0.5)) is None
    assert without_replacement(Order(SKEW, 0.5, straight_through=True)) is None
    assert without_replacement(dist.Normal(0.0, 1.0)) is None
