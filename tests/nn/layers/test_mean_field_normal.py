"""The law of a weight, read from the trace of the guide."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from pyro_reparam_ext.nn.layers.mean_field_normal import MeanFieldNormal, law_of

PRIORS = {
    "w": dist.Normal(0.0, 1.0).expand([2, 3]).to_event(2),
    "s": dist.LogNormal(0.0, 1.0).expand([2]).to_event(1),
    "b": dist.StudentT(3.0).expand([4]).to_event(1),
}


def model():
    for name, prior in PRIORS.items():
        pyro.sample(name, prior)


def trace_of(guide, particles=0):
    guide()
    if not particles:
        return poutine.trace(guide).get_trace()
    with pyro.plate("num_particles_vectorized", particles, dim=-1):
        return poutine.trace(guide).get_trace()


def auto_list():
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, expose=["w"])))
    guide.append(AutoNormal(poutine.block(model, hide=["w"])))
    return guide


@pytest.mark.parametrize("particles", [0, 5])
@pytest.mark.parametrize(
    "make", [lambda: AutoNormal(model), lambda: AutoDiagonalNormal(model), auto_list]
)
def test_mean_field_autoguides(make, particles):
    """The draws are loc + scale * noise of the law that is found."""
    guide = make()
    trace = trace_of(guide)
    for parameter in guide.parameters():
        parameter.data = torch.randn_like(parameter)
    trace = trace_of(guide, particles)
    law = {name: law_of(name, prior, trace) for name, prior in PRIORS.items()}
    assert "support" in law["s"]
    quantiles = guide.quantiles([0.5, dist.Normal(0.0, 1.0).cdf(torch.tensor(1.0)).item()])
    for name in ("w", "b"):
        assert isinstance(law[name], MeanFieldNormal)
        assert law[name].loc.shape == trace.nodes[name]["value"].shape
        first = (0,) * (law[name].loc.dim() - PRIORS[name].event_dim)
        median, upper = quantiles[name]
        torch.testing.assert_close(law[name].loc[first], median)
        torch.testing.assert_close(law[name].loc[first] + law[name].scale[first], upper)


@pytest.mark.parametrize("name", ["eps", "w_unconstrained"])
def test_a_value_that_is_made_from_a_normal_one_has_not_its_law(name):
    def guide():
        normal = dist.Normal(0.0, 1.0).expand([6]).to_event(1)
        noise = pyro.sample(name, normal, infer={"is_auxiliary": True})
        pyro.sample("w", dist.Delta((5 + 0.01 * noise).reshape(2, 3), event_dim=2))

    assert name in law_of("w", PRIORS["w"], trace_of(guide))


def by_hand(fn):
    return lambda: pyro.sample("w", fn)


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(torch.ones(2, 3), 0.5).to_event(2),
        dist.Normal(torch.ones(3), 0.5).expand([2, 3]).to_event(2),
        dist.Normal(torch.ones(3), 0.5).to_event(1).expand([2]).to_event(1),
        dist.Normal(torch.ones(2, 3), 0.5).mask(torch.ones(2, 3).bool()).to_event(2),
    ],
)
def test_by_hand(fn):
    law = law_of("w", PRIORS["w"], trace_of(by_hand(fn)))
    torch.testing.assert_close(law.loc, torch.ones(2, 3))
    torch.testing.assert_close(law.scale, torch.full((2, 3), 0.5))


def test_a_certain_value_has_no_law():
    assert law_of("w", PRIORS["w"], trace_of(AutoDelta(model))) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: AutoMultivariateNormal(model), "_AutoMultivariateNormal_latent"),
        (lambda: AutoLowRankMultivariateNormal(model), "_AutoLowRankMultivariateNormal_latent"),
        (lambda: AutoIAFNormal(model), "_AutoIAFNormal_latent"),
        (lambda: by_hand(dist.Laplace(torch.zeros(2, 3), 1.0).to_event(2)), "Laplace"),
        (
            lambda: by_hand(dist.MultivariateNormal(torch.zeros(2, 3), torch.eye(3)).to_event(1)),
            "Multi",
        ),
    ],
)
def test_other_laws_are_named(make, reason):
    assert reason in law_of("w", PRIORS["w"], trace_of(make()))
