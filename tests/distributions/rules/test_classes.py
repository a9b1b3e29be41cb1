import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions.rules.classes import class_of, value_of

BASES = {
    "Bernoulli": dist.Bernoulli(logits=torch.zeros(4, 2, dtype=torch.float64)),
    "Categorical": dist.Categorical(logits=torch.zeros(4, 2, 3, dtype=torch.float64)),
    "OneHotCategorical": dist.OneHotCategorical(logits=torch.zeros(4, 2, 3, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", BASES)
def test_values_of_classes(name):
    base = BASES[name]
    value = base.sample((5,))
    number = class_of(base, value)
    assert number.shape == (5, 4, 2) and not number.is_floating_point()
    again = value_of(base, number)
    assert again.dtype == value.dtype and torch.equal(again, value)
