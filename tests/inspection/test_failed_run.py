"""A program that fails says which of its distributions are known to be wrong."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

SIZE = 50


def site():
    temperature = torch.tensor(0.1)  # at which the draws are outside of what float32 calls a simplex
    fn = dist.RelaxedOneHotCategoricalStraightThrough(temperature, logits=torch.zeros(SIZE))
    pyro.sample("z", fn)


def no_plate():
    pyro.sample("x", dist.Normal(torch.zeros(3), 1.0))


def notes(error):
    return getattr(error, "__notes__", [str(error.__cause__)])


def test_defects_are_noted_on_the_error():
    with pytest.raises(ValueError, match="Simplex") as caught:
        pre.inspect_sites(site, site)
    assert notes(caught.value)[-1] == (
        "site 'z': hard values scored by a relaxed density. "
        "Take pre.distributions.StraightThroughOneHotCategorical."
    )


def test_an_error_of_another_reason_stays_as_it_is():
    with pytest.raises(ValueError, match="invalid log_prob shape") as caught:
        pre.inspect_sites(no_plate, no_plate)
    assert not hasattr(caught.value, "__notes__")


def test_a_guide_that_stops_is_looked_at_as_far_as_it_went():
    def guide():
        pyro.sample("angle", dist.VonMises(0.0, 1.0))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        pre.inspect_sites(guide, guide)
    assert "pre.distributions.VonMises" in notes(caught.value)[-1]
