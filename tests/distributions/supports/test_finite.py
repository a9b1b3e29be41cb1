"""Logits without infinities."""

import pytest
import torch
from torch.distributions import biject_to, transform_to

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.supports.finite import finite_vector


def make(name, logits):
    if name == "PlackettLuce":
        return pre.distributions.PlackettLuce(logits, validate_args=True)
    return pre.distributions.RelaxedSubset(0.5, logits, 2, validate_args=True)


@pytest.mark.parametrize("name", ["PlackettLuce", "RelaxedSubset"])
@pytest.mark.parametrize("wrong", [-torch.inf, torch.inf, torch.nan])
def test_refuses_infinities(name, wrong):
    with pytest.raises(ValueError, match=r"logits(.|\n)*finite numbers"):
        make(name, torch.tensor([0.0, wrong, 1.0]))


@pytest.mark.parametrize("name", ["PlackettLuce", "RelaxedSubset"])
def test_accepts_a_logit_far_below(name):
    fn = make(name, torch.tensor([0.0, -1e4, 1.0]))
    value = fn.sample((100,))
    assert fn.log_prob(value).isfinite().all()


def test_is_the_real_line():
    x = torch.tensor([1.0, -2.0])
    for registry in (biject_to, transform_to):
        assert torch.equal(registry(finite_vector)(x), x)
