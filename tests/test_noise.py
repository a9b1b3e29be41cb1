"""Noise that is never at an end."""

import pytest
import torch
from scipy import stats

from pyro_reparam_ext.noise import standard_exponential, standard_uniform

from .statistics import assert_follows


@pytest.mark.parametrize(
    ("draw", "law"), [(standard_uniform, stats.uniform), (standard_exponential, stats.expon)]
)
def test_law(draw, law):
    value = draw(torch.Size((20_000,)), torch.zeros((), dtype=torch.float64))
    assert_follows(value, law.cdf)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_ends_of_the_generator(monkeypatch, u):
    monkeypatch.setattr(torch, "rand", lambda shape, **kwargs: torch.full(shape, u, **kwargs))
    like = torch.zeros(())
    assert 0 < standard_uniform(torch.Size((1,)), like) < 1
    assert 0 < standard_exponential(torch.Size((1,)), like) < 20
