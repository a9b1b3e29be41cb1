"""Every public estimator is registered, and says what it is."""

import inspect

import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator
from pyro_reparam_ext.estimators.doubly_reparameterized import DoublyReparameterized
from pyro_reparam_ext.estimators.gaussian_pathwise import GaussianPathwise
from pyro_reparam_ext.estimators.protocol import Paper

from .families import FAMILIES
from .registry import REGISTRY

OF_A_BOUND = {DoublyReparameterized}
"""Estimators for objectives that choose them themselves, which nobody configures."""
PUBLIC = [getattr(pre.estimators, name) for name in pre.estimators.__all__]


def test_registry_is_complete():
    registered = {type(entry.make()).__name__ for entry in REGISTRY.values()}
    assert registered == set(pre.estimators.__all__)


BASES = {Estimator, GaussianPathwise}


def test_every_estimator_is_public():
    def subclasses(cls):
        return {cls, *(c for s in cls.__subclasses__() for c in subclasses(s))}

    package = {c for c in subclasses(Estimator) if c.__module__.startswith("pyro_reparam_ext")}
    assert package - BASES - OF_A_BOUND == set(PUBLIC)


PARTS = {
    "base": ("Estimator",),
    "hard_forward": ("HardForward",),
    "protocol": ("Branch", "Draw", "Evaluations", "Paper", "Site"),
    "wrappers": ("coordinates", "num_coordinate_dims", "num_coordinates", "sum_rightmost"),
}
"""What estimators are made of, by the module that it comes from."""


@pytest.mark.parametrize(("module", "name"), [(m, name) for m in PARTS for name in PARTS[m]])
def test_parts_have_one_public_place(module, name):
    assert getattr(pre.estimators, name).__module__.endswith(f".{module}")
    assert name not in pre.estimators.__all__


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_declares_what_it_is(cls):
    assert isinstance(cls.unbiased, bool)
    assert isinstance(cls.condition, str) and (cls.unbiased or not cls.condition)
    assert isinstance(cls.paper, Paper)
    assert 1980 < cls.paper.year < 2100
    assert getattr(pre, cls.__name__) is cls
    assert cls.__module__.rsplit(".", 1)[0] == "pyro_reparam_ext.estimators"
    doc = inspect.getdoc(cls)
    for section in (".. math::", "Example:"):
        assert section in doc


@pytest.mark.parametrize("label", REGISTRY)
@pytest.mark.parametrize("family", FAMILIES)
def test_supports_what_is_registered(label, family):
    entry, one = REGISTRY[label], FAMILIES[family]
    supports = entry.make().supports(one.make(torch.zeros(3, one.size)))
    assert supports == (family in entry.families or label.startswith("ScoreFunction"))


@pytest.mark.parametrize("label", REGISTRY)
def test_options_are_frozen(label):
    estimator = REGISTRY[label].make()
    for field in inspect.signature(type(estimator)).parameters:
        with pytest.raises(AttributeError):
            setattr(estimator, field, 1)
