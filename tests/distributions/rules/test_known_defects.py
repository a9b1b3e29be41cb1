"""What is known of samplers, looked up by their class."""

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules import known_defects as known

ours = pre.distributions
HALF, THREE = torch.tensor(0.5), torch.zeros(3)

FACTS = {
    "biased": (
        known.is_biased_sampler,
        [
            dist.OneHotCategoricalStraightThrough(logits=THREE).mask(True),
            dist.MixtureOfDiagNormals(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)),
            ours.StraightThroughBernoulli(0.5, logits=THREE).to_event(1),
            ours.PlackettLuce(THREE, 0.5, straight_through=True),
        ],
        [
            dist.OneHotCategorical(logits=THREE),
            dist.RelaxedBernoulliStraightThrough(HALF, logits=THREE),
            ours.MixtureOfDiagNormals(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)),
            ours.PlackettLuce(THREE, 0.5),
        ],
    ),
    "scored otherwise": (
        known.is_scored_otherwise,
        [
            dist.RelaxedOneHotCategoricalStraightThrough(HALF, logits=THREE),
            ours.RelaxedBernoulli(0.5, logits=THREE, score="discrete"),
        ],
        [dist.RelaxedOneHotCategorical(HALF, logits=THREE), ours.RelaxedBernoulli(0.5, logits=THREE)],
    ),
    "once": (
        known.is_differentiable_once,
        [
            dist.Gamma(HALF, 1.0),
            dist.Chi2(HALF),
            dist.InverseGamma(HALF, 1.0).expand([3]).to_event(1),
            ours.Truncated(dist.Normal(HALF, 1.0), 0.0, 1.0),
            dist.OMTMultivariateNormal(THREE, torch.eye(3)),
        ],
        [
            ours.Gamma(HALF, 1.0),
            dist.TransformedDistribution(ours.Gamma(HALF, 1.0), []),
            dist.MultivariateNormal(THREE, torch.eye(3)),
        ],
    ),
    "twin": (
        known.has_twin,
        [dist.StudentT(HALF), dist.InverseGamma(HALF, 1.0)],
        [ours.StudentT(HALF), ours.TruncatedNormal(HALF, 1.0, 0.0, 1.0), dist.Normal(HALF, 1.0)],
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts(name):
    fact, yes, no = FACTS[name]
    assert [fact(fn) for fn in yes] == [True] * len(yes)
    assert [fact(fn) for fn in no] == [False] * len(no)
