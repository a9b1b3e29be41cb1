"""The gain that is left: guides at a known distance from a normal posterior."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions.constraints import positive

from pyro_reparam_ext.diagnostics.guide_draws import Way
from pyro_reparam_ext.diagnostics.held_parameters import held
from pyro_reparam_ext.diagnostics.slope import BOUND_DRAWS, slope
from pyro_reparam_ext.estimators.score_function import ScoreFunction

from ..statistics import assert_z

WAY = Way(math.inf)


def model():
    pyro.sample("z", dist.Normal(0.0, 1.0))


def guide(loc, scale, moves=("loc", "scale")):
    def of():
        mean = pyro.param("loc", torch.tensor(loc)) if "loc" in moves else loc
        sd = (
            pyro.param("scale", torch.tensor(scale), constraint=positive) if "scale" in moves else scale
        )
        pyro.sample("z", dist.Normal(mean, sd))

    return of


def assert_gains(found, loc, draws=BOUND_DRAWS):
    """A draw at ``loc`` loses ``loc * noise + loc**2 / 2`` to the same one at 0."""
    assert found.is_real
    assert_z((found.gain - loc**2 / 2) / (loc / draws**0.5))


@pytest.mark.parametrize("loc", [0.4, -3.0])
def test_the_gain_of_a_shift(loc):
    assert_gains(slope(model, guide(loc, 1.0, ("loc",)), (), {}, WAY), loc)


@pytest.mark.parametrize("loc, scale", [(0.0, 0.4), (0.0, 2.0), (0.5, 0.5)])
def test_the_gain_is_the_divergence(loc, scale):
    found = slope(model, guide(loc, scale), (), {}, WAY)
    divergence = (loc**2 + scale**2 - 1) / 2 - math.log(scale)
    assert found.is_real
    assert found.gain == pytest.approx(divergence, rel=0.2)
    assert pyro.param("loc").item() == loc and pyro.param("scale").item() == pytest.approx(scale)


def test_an_optimum_has_no_slope():
    """The sd is not the posterior's, so that the gradient of the mean is noisy."""
    for seed in range(8):
        torch.manual_seed(seed)
        assert not slope(model, guide(0.0, 0.5, ("loc",)), (), {}, WAY).is_real


def test_discrete_sites_have_a_slope():
    def coin():
        pyro.sample("b", dist.Bernoulli(0.8))

    def guess():
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(-1.0))))

    found = slope(coin, guess, (), {}, WAY)
    p = torch.tensor(-1.0).sigmoid()
    divergence = float(p * (p / 0.8).log() + (1 - p) * ((1 - p) / 0.2).log())
    assert found.is_real and found.gain == pytest.approx(divergence, rel=0.4)


def test_a_loop_has_the_same_slope(monkeypatch):
    monkeypatch.setattr("pyro_reparam_ext.diagnostics.slope.BOUND_DRAWS", 64)
    assert_gains(
        slope(model, guide(1.0, 1.0, ("loc",)), (), {}, Way(math.inf, vectorized=False)), 1.0, 64
    )


def test_no_parameters_no_slope():
    assert not slope(model, guide(1.0, 1.0, ()), (), {}, WAY).is_real


def test_parameters_are_put_back_after_an_error():
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (leaf**2).sum()
    with pytest.raises(KeyError), held({"leaf": leaf}):
        leaf.data.add_(1.0)
        raise KeyError
    assert leaf.tolist() == [1, 2]
    loss.backward()
    assert leaf.grad.tolist() == [2, 4]


def change_point(years=40):
    """Counts that fall after 15 years, and a guide that has not begun to learn when."""
    counts = torch.where(torch.arange(years) < 15, 3.0, 1.0)

    def model():
        year = pyro.sample("year", dist.Categorical(torch.ones(years)))
        rates = pyro.sample("rates", dist.Gamma(torch.ones(2), 1.0).to_event(1))
        with pyro.plate("years", years):
            is_late = (torch.arange(years) >= year.unsqueeze(-1)).long()
            pyro.sample("count", dist.Poisson(rates.gather(-1, is_late)), obs=counts)

    def guide():
        logits = pyro.param("logits", torch.zeros(years))
        pyro.sample("year", dist.Categorical(logits=logits))
        rates = dist.LogNormal(torch.tensor([1.1, 0.0]), 0.2)
        pyro.sample("rates", rates.to_event(1))

    return model, guide


def test_many_logits_have_a_slope():
    """By estimators of little variance: by the score function it drowns in noise."""
    model, guide = change_point()
    found = slope(model, guide, (), {}, Way(1))
    assert found.is_real and found.gain > 1


def test_a_slope_in_noise_is_not_called_none():
    model, guide = change_point()
    found = slope(model, guide, (), {}, Way(1), estimators=ScoreFunction())
    assert not found.is_real and found.most > 1
