"""The check of an estimator passes what is right, and names what is wrong."""

import random

import pyro
import pytest
import torch

import pyro_reparam_ext as pre

from .faults import FAULTS, Flip, Twin

COIN = pre.testing.Family("coin", 1, lambda t: pyro.distributions.Bernoulli(logits=t[..., 0]))


@pytest.mark.parametrize("make", [Twin, Flip])
def test_what_is_right_passes(make):
    found = pre.testing.check_estimator(make)
    assert set(found.distribution) == {"Bernoulli, to_event", "Bernoulli"}
    assert found.unbiased.all() and found.p_value.min() > 1e-6


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_a_fault_is_named(make):
    with pytest.raises(AssertionError, match=f"(?s)^{make.__name__}[ :].*{FAULTS[make]}"):
        pre.testing.check_estimator(make)


def test_an_instance_is_checked():
    assert pre.testing.check_estimator(pre.DisARM(num_pairs=2), [COIN]).p_value.min() > 1e-6


def test_a_biased_one_is_listed():
    family = pre.testing.Family(
        "Bernoulli", 1, lambda t: pyro.distributions.Bernoulli(logits=t[..., 0])
    )
    found = pre.testing.check_estimator(lambda: pre.GumbelSoftmax(0.5), [family])
    assert not found.unbiased.any()
    assert found.p_value.min() < 1e-6


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: "DisARM", "expected an instance of pre.estimators.Estimator, was given 'DisARM'"),
        (pre.GumbelSoftmax, "can't be made without options .*pass an instance.*temperature"),
    ],
    ids=["name", "option"],
)
def test_what_is_no_estimator(make, match):
    with pytest.raises(AssertionError, match=match):
        pre.testing.check_estimator(make)


def test_an_estimator_of_other_distributions():
    class Exponential(Twin):
        supported = (torch.distributions.Exponential,)

    with pytest.raises(AssertionError, match=r"Exponential: .*distributions=\[pre.testing.Family"):
        pre.testing.check_estimator(Exponential)


def test_it_leaves_no_trace():
    pyro.param("mine", torch.ones(2))
    before = torch.get_rng_state(), random.getstate()
    pre.testing.check_estimator(Flip, [COIN])
    assert list(pyro.get_param_store()) == ["mine"]
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def test_one_seed_gives_the_same_numbers():
    first, again = (pre.testing.check_estimator(Flip, [COIN], seed=3) for _ in range(2))
    assert first.equals(again)
