"""The estimators of the package pass the check that it ships, each at one distribution in turn."""

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.testing.families import FAMILIES

from ..registry import REGISTRY, ConstantBaseline
from ..slow import one_in

MAKE = {
    **{label: entry.make for label, entry in REGISTRY.items()},
    "ScoreFunction-network": lambda: pre.ScoreFunction(ConstantBaseline().float()),
}
"""How each is made; a network of one's own is in the precision of the program."""
SUBSET = pre.testing.Family(
    "Subset", 3, lambda theta: pre.distributions.ConditionalBernoulli(2, logits=theta)
)


def mixture(theta):
    """One logit for the second of two components, and a shift of both."""
    logits = torch.stack([torch.zeros_like(theta[..., 0]), theta[..., 0]], -1)
    components = dist.Normal(theta[..., 1:] + torch.tensor([-1.0, 1.0]).to(theta), 0.7)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)


MIXTURE = pre.testing.Family("Mixture", 2, mixture)
LABELS = (
    *("ScoreFunction-network", "LeaveOneOut", "DisARM", "RODEO", "LocalExpectation"),
    *("Enumeration", "Stratified", "Combine", "SIMPLE"),
)
"""One for each way in which estimators are made."""
TRIED = (*FAMILIES, SUBSET, MIXTURE)


@pytest.mark.parametrize("label", one_in(3, LABELS))
def test_own_estimator(label):
    make, turn = MAKE[label], list(REGISTRY).index(label)
    families = [family for family in TRIED if make().serves(family.typical)]
    pre.testing.check_estimator(make, [families[turn % len(families)]])
