import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation import plan

from ..sampling import gradients

PLATE, COORDINATES = 3, 10
FOOTPRINT = PLATE * COORDINATES + PLATE
"""The numbers in the values of one evaluation."""


def guide():
    logits = pyro.param("logits", torch.linspace(-1, 1, COORDINATES))
    with pyro.plate("data", PLATE):
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


def model():
    with pyro.plate("data", PLATE):
        z = pyro.sample("z", dist.Bernoulli(0.3 * torch.ones(COORDINATES)).to_event(1))
        pyro.sample("y", dist.Normal(z.cumsum(-1).prod(-1), 1.0), obs=torch.arange(3.0))


def elbo_of(estimator, mode=True):
    return pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode, max_plate_nesting=1)


def at_once(elbo):
    """How many alternatives are evaluated in each pass."""
    passes = elbo.evaluate(model, guide, (), {})[0].passes
    return [sum(map(len, p.spans)) for p in passes if p.spans]


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("estimator", [pre.LocalExpectation(), pre.MeasureValued()], ids=repr)
def test_evaluations_at_once_are_bounded_by_the_numbers_in_them(estimator, mode, monkeypatch):
    rows = []
    for most, expected in ((plan._NUMBERS, [10]), (4 * FOOTPRINT, [4, 4, 2]), (1, [1] * 10)):
        monkeypatch.setattr(plan, "_NUMBERS", most)
        pyro.clear_param_store()
        torch.manual_seed(1)
        elbo = elbo_of(estimator, mode)
        rows.append(gradients(elbo, model, guide, ["logits"], 1))
        assert at_once(elbo) == expected
    torch.testing.assert_close(rows[0], rows[1])
    torch.testing.assert_close(rows[0], rows[2])


def test_an_option_of_the_estimator_goes_before(monkeypatch):
    monkeypatch.setattr(plan, "_NUMBERS", 1)
    assert at_once(elbo_of(pre.LocalExpectation(max_evaluations=6))) == [6, 4]
