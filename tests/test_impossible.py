"""Values of probability 0 in guide and model: as if they had been removed by hand."""

import pyro
import pytest
import torch

import pyro_reparam_ext as pre

from .impossible import NAMES, Impossible
from .registry import REGISTRY
from .sampling import gradients
from .statistics import assert_mean

PARTICLES, CALLS = 200, 20
DISCRETE = [label for label in REGISTRY if "Bernoulli" in REGISTRY[label].families]
BIASED = [label for label in DISCRETE if not REGISTRY[label].make().unbiased]
UNBIASED = [label for label in DISCRETE if label not in BIASED]


def cases(labels):
    return [
        (label, family, by, where)
        for label in labels
        for family in ("Bernoulli", "OneHotCategorical", "Categorical")
        for by in ("logits", "probs")
        for where in ("both", "guide")
        if any(family in one for one in REGISTRY[label].families)
    ]


def draws(program, label, calls=CALLS, particles=PARTICLES):
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(REGISTRY[label].make(), num_particles=particles)
    return gradients(elbo, program.model, program.guide, NAMES, calls)


def by_hand(program, label, calls=CALLS, particles=PARTICLES):
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(REGISTRY[label].make(), num_particles=particles, max_plate_nesting=1)
    return gradients(elbo, program.smaller_model, program.smaller_guide, NAMES, calls)


def exact(program):
    return by_hand(program, "Enumeration", 1, 1)[0]


@pytest.mark.parametrize(("label", "family", "by", "where"), cases(UNBIASED))
def test_mean_of_gradient(label, family, by, where):
    program = Impossible(family, by, where)
    assert_mean(draws(program, label), exact(program))


@pytest.mark.parametrize(("label", "family", "by", "where"), cases(BIASED))
def test_relaxed_as_what_is_left(label, family, by, where):
    program = Impossible(family, by, where)
    difference = draws(program, label) - by_hand(program, label)
    assert_mean(difference, torch.zeros(difference.shape[1]))
