"""A site's sampler in words."""

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.testing.rejection_gamma import RejectionStandardGamma

import pyro_reparam_ext as pre
from pyro_reparam_ext.inspection.sampler_words import sampler_words

HALF = torch.tensor([0.5])
ours = pre.distributions


class Drawn(dist.TorchDistribution):
    """A continuous law that is drawn somehow."""

    arg_constraints = {}
    support = dist.constraints.real


@pytest.mark.parametrize(
    "fn, words",
    [
        (dist.Normal(HALF, 1.0).to_event(1), "pathwise"),
        (dist.Poisson(HALF), "discrete"),
        (dist.Delta(HALF), "a function of other sites"),
        (RejectionStandardGamma(4 * HALF), "pathwise in part"),
        (Drawn(), "no pathwise sampler"),
        (dist.VonMises(HALF, 1.0), "no pathwise sampler"),
        (ours.RelaxedBernoulli(0.5, logits=HALF), "pathwise"),
        (ours.StraightThroughBernoulli(0.5, logits=HALF), "straight-through, biased"),
        (
            ours.RelaxedBernoulli(0.5, logits=HALF, score="discrete"),
            "relaxed, scored as discrete: biased",
        ),
        (dist.Gamma(0.01 * HALF, 1.0).mask(True), "65 % of draws underflow: wrong gradient"),
    ],
)
def test_sampler_words(fn, words):
    assert sampler_words(fn) == words
