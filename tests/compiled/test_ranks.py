"""Several processes take their steps together, and fail together."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributed import group

import pyro_reparam_ext as pre

from ..processes import on_ranks
from .steps import GraphSVI, adam

DATA = torch.linspace(-1.0, 2.0, 12)


def model(x):
    z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
    with pyro.plate("rows", 12, subsample_size=len(x)):
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def guide(x):
    logits = pyro.param("logits", lambda: torch.randn(2))
    pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


def state():
    return {name: p.detach().clone() for name, p in pyro.get_param_store().items()}


def steps(rank, estimator, count):
    elbo = pre.TraceEstimator_ELBO(estimator)
    svi = GraphSVI(model, guide, adam(), elbo, group=group.WORLD)
    losses = [svi.step(DATA[6 * rank : 6 * rank + 6]) for _ in range(count)]
    assert all(step is not None for step in svi._steps.values()) and len(svi._steps) == 1
    return losses, state(), dict(elbo.states.state_dict())


@pytest.mark.parametrize("name", ["REBAR", "ema"])
def test_all_ranks_hold_the_same(name):
    estimator = pre.ScoreFunction("ema") if name == "ema" else pre.REBAR()
    (losses, params, learned), other = on_ranks(steps, estimator, 5)
    assert losses == other[0]
    assert params.keys() == other[1].keys()
    assert all(torch.equal(x, other[1][k]) for k, x in params.items())
    assert learned and all(torch.equal(x, other[2][k]) for k, x in learned.items())
