"""Sums over sets that overlap, and what they are for: long chains of sites."""

import random
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation.shared_sums import shared_sums

from ..benchmarks.chain import Chain
from ..slow import one_in
from ..statistics import assert_mean


def by_itself(summands, owner):
    return sum(value for owners, value in summands if owners >> owner & 1)


@pytest.mark.parametrize("seed", range(20))
def test_each_owner_gets_its_own_sum(seed):
    rng = random.Random(seed)
    owners = rng.randint(1, 6)
    summands = [(rng.getrandbits(owners), torch.tensor(2**i)) for i in range(rng.randint(1, 20))]
    sums = shared_sums(summands, sum)
    assert set(sums) == {i for i in range(owners) if any(o >> i & 1 for o, _ in summands)}
    for owner, value in sums.items():
        assert value == by_itself(summands, owner)


class Counted:
    """A number that counts the additions it went through."""

    additions = 0

    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        Counted.additions += 1
        return Counted(self.value + other.value)


@pytest.mark.parametrize("parent", [lambda t: t - 1, lambda t: t // 2], ids=["chain", "tree"])
def test_chains_and_trees_take_about_one_addition_a_site(parent):
    count = 64
    ancestors = [1]
    for t in range(1, count):
        ancestors.append(ancestors[parent(t)] | 1 << t)
    Counted.additions = 0
    sums = shared_sums([(owners, Counted(1)) for owners in ancestors], lambda group: group[0])
    assert [sums[t].value for t in range(count)] == [
        sum(owners >> t & 1 for owners in ancestors) for t in range(count)
    ]
    assert Counted.additions < count


ESTIMATORS = {
    "default": {},
    "LeaveOneOut": {"estimators": pre.LeaveOneOut(), "num_particles": 2},
    "DisARM": {"estimators": pre.DisARM()},
    "LocalExpectation": {"estimators": pre.LocalExpectation()},
    "REBAR": {"estimators": pre.REBAR()},
}


def calls_of_a_gradient(options, sites):
    """Calls of functions, in Python and in C, that one gradient of a chain takes."""
    elbo, chain, count = pre.TraceEstimator_ELBO(**options), Chain(sites), 0
    elbo.loss_and_grads(chain.model, chain.guide)
    for known in elbo._ways[0].shapes.values():  # as after the calls that compare with plain runs
        known.complete, known.calls = True, 5

    def counting(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        elbo.loss_and_grads(chain.model, chain.guide)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("label", one_in(4, ["default", "LeaveOneOut", "DisARM", "REBAR"], 2))
def test_the_work_of_a_gradient_grows_with_the_length_of_the_chain(label):
    few, many = (calls_of_a_gradient(ESTIMATORS[label], sites) for sites in (40, 80))
    assert many < 2.6 * few


class ShortChain(Chain):
    """In double precision, with a parameter in the model."""

    initial = torch.tensor([0.4, -0.6, 0.2, 0.5], dtype=torch.float64)

    def guide(self):
        logits = pyro.param("logits", self.initial.clone())
        self.states(lambda t, before: (logits[t] + before).sigmoid())

    def model(self):
        weight = pyro.param("weight", torch.tensor(0.7, dtype=torch.float64))
        states = self.states(lambda t, before: 0.3 + 0.4 * before.double())
        pyro.sample("x", dist.Normal(weight * sum(states) ** 2, 2.0), obs=torch.tensor(3.0).double())


def gradient(elbo, chain):
    pyro.get_param_store().clear()
    elbo.loss_and_grads(chain.model, chain.guide)
    return torch.cat([pyro.param(name).grad.reshape(-1) for name in ("logits", "weight")])


@pytest.mark.parametrize("label", ESTIMATORS)
def test_sites_that_share_passes_and_redraws_stay_unbiased(label):
    chain = ShortChain(4)
    exact = gradient(pre.TraceEstimator_ELBO(pre.Enumeration()), chain)
    elbo = pre.TraceEstimator_ELBO(**{**ESTIMATORS[label], "num_particles": 100})
    assert_mean(torch.stack([gradient(elbo, chain) for _ in range(40)]), exact)


def test_two_sites_of_one_pass_are_both_named():
    def guide():
        with pyro.plate("data", 3):
            a = pyro.sample("a", dist.Bernoulli(logits=pyro.param("of_a", torch.zeros(3))))
            pyro.sample("b", dist.Bernoulli(logits=pyro.param("of_b", torch.zeros(3)) + a))

    def model():
        with pyro.plate("data", 3):
            pyro.sample("a", dist.Bernoulli(0.5))
            b = pyro.sample("b", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(b.sum(-1, keepdim=True), 1.0), obs=torch.zeros(1))

    elbo = pre.TraceEstimator_ELBO(pre.LocalExpectation())
    with pytest.raises(pre.EstimatorError, match=r"site 'a' or 'b'.*'x' depends on it from outside"):
        elbo.loss_and_grads(model, guide)
