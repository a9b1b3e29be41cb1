"""A site in words."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre
from pyro_reparam_ext.inspection.words import (
    distribution_words,
    num_numbers,
    plate_words,
    support_size,
)

HALF = 0.5 * torch.ones(2, 3)
MIXTURE = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0))

SITES = {
    "Normal": (dist.Normal(0.0, 1.0), 1, math.nan),
    "LogNormal, to_event(1)": (dist.LogNormal(HALF, 1.0).to_event(1), 3, math.nan),
    "Bernoulli, to_event(2), masked": (dist.Bernoulli(HALF).to_event(2).mask(HALF[0, 0] > 0), 6, 2),
    "Bernoulli, masked, to_event(2)": (dist.Bernoulli(HALF).mask(HALF > 0).to_event(2), 6, 2),
    "Categorical": (dist.Categorical(HALF), 1, 3),
    "OneHotCategorical": (dist.OneHotCategorical(HALF), 1, 3),
    "OneHotCategorical, to_event(1)": (dist.OneHotCategorical(HALF).to_event(1), 2, 3),
    "Binomial": (dist.Binomial(5, 0.5), 1, 6),
    "Poisson": (dist.Poisson(1.0), 1, math.inf),
    "MultivariateNormal": (dist.MultivariateNormal(torch.zeros(4), torch.eye(4)), 4, math.nan),
    "Wishart": (pre.distributions.Wishart(torch.tensor(4.0), torch.eye(2)), 4, math.nan),
    "MixtureSameFamily of Normal": (MIXTURE, 1, math.nan),
    "Gamma through ExpTransform, expanded": (
        dist.ExpandedDistribution(
            dist.TransformedDistribution(dist.Gamma(1.0, 1.0), dist.transforms.ExpTransform()), (2,)
        ),
        1,
        math.nan,
    ),
    "Gamma through inverse ExpTransform": (
        dist.TransformedDistribution(dist.Gamma(1.0, 1.0), dist.transforms.ExpTransform().inv),
        1,
        math.nan,
    ),
    "StraightThroughBernoulli, to_event(1)": (
        pre.distributions.StraightThroughBernoulli(0.5, logits=HALF).to_event(1),
        3,
        2,
    ),
    "Delta": (dist.Delta(HALF, event_dim=1), 3, math.nan),
}
"""By the words: a distribution, its coordinates, and the values of one."""


@pytest.mark.parametrize("words", SITES)
def test_a_distribution_and_its_sizes(words):
    fn, coordinates, values = SITES[words]
    assert distribution_words(fn) == words
    assert num_numbers(fn) == coordinates
    assert support_size(fn) == values or (math.isnan(values) and math.isnan(support_size(fn)))


def test_counts_out_of_different_totals_have_no_common_support():
    assert support_size(dist.Binomial(torch.tensor([2, 3]), 0.5)) == math.inf


def plates():
    with pyro.plate("columns", 4, dim=-1), pyro.plate("rows", 100, subsample_size=20, dim=-2):
        pyro.sample("both", dist.Normal(0.0, 1.0))
    for _ in pyro.plate("steps", 1):
        pyro.sample("step", dist.Normal(0.0, 1.0))
    pyro.sample("none", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    "site, words",
    [("both", "rows[20 of 100], columns[4]"), ("step", "steps[1, one by one]"), ("none", "")],
)
def test_plates_from_the_outermost_to_the_innermost(site, words):
    assert plate_words(poutine.trace(plates).get_trace().nodes[site]) == words
