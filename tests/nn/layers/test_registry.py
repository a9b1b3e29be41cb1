"""The one list of layers has those of every module, each function once."""

import importlib
import pkgutil

import pytest

from pyro_reparam_ext.nn import layers
from pyro_reparam_ext.nn.layers.registry import LAYERS

MODULES = {
    name: importlib.import_module(f"{layers.__name__}.{name}")
    for _, name, _ in pkgutil.iter_modules(layers.__path__)
}
FAMILIES = {
    name: module.LAYERS
    for name, module in MODULES.items()
    if hasattr(module, "LAYERS") and module.LAYERS is not LAYERS
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_list_has_a_module_s_layers(name):
    assert FAMILIES[name].items() <= LAYERS.items()


def test_the_list_has_no_others_and_none_twice():
    assert len(FAMILIES) > 5
    assert sum(map(len, FAMILIES.values())) == len(LAYERS)
