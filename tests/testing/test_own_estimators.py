"""The estimators of the package pass the check that it ships, each at one distribution in turn."""

import pytest

import pyro_reparam_ext as pre
from pyro_reparam_ext.testing.families import FAMILIES

from ..registry import REGISTRY, ConstantBaseline

MAKE = {
    **{label: entry.make for label, entry in REGISTRY.items()},
    "ScoreFunction-network": lambda: pre.ScoreFunction(ConstantBaseline().float()),
}
"""How each is made; a network of one's own is in the precision of the program."""


@pytest.mark.parametrize("label", REGISTRY)
def test_own_estimator(label):
    make, turn = MAKE[label], list(REGISTRY).index(label)
    families = [family for family in FAMILIES if make().serves(family.typical)]
    pre.testing.check_estimator(make, [families[turn % len(families)]])
