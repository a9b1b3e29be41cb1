"""What a study takes as true."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.draws import Draws
from pyro_reparam_ext.study.references import exact_call, score_function_call, support_moves
from pyro_reparam_ext.study.sampler import Sampler

from .programs import exact_gradient, guide, model

A = torch.tensor(0.5, requires_grad=True)
FIXED = [
    dist.Normal(A, 1.0),
    dist.Gamma(A, A),
    dist.Beta(A, A),
    dist.Gumbel(A, A),
    dist.LogNormal(A, A),
]
MOVING = [
    dist.Uniform(0.0, A),
    dist.Uniform(0.0, A).expand([2]).to_event(1),
    dist.Pareto(A, 2.0),
    dist.TransformedDistribution(
        dist.Uniform(0.0, torch.tensor(1.0)), [dist.transforms.AffineTransform(A, 1.0)]
    ),
]


@pytest.mark.parametrize("fn", [*FIXED, *MOVING], ids=lambda fn: type(fn).__name__)
def test_supports_that_move_with_parameters_are_known(fn):
    assert support_moves(fn) == any(fn is moving for moving in MOVING)


def test_exact_gradient_whatever_estimators_the_guide_has():
    biased = pre.config_estimator(guide, {"z": pre.GumbelSoftmax(2.0)})
    sampler = Sampler(exact_call(model, biased, (), {}))
    assert sampler.deterministic  # in a plate that takes all of its data
    (draw,) = Draws(sampler, ["logits"]).chunks(1)
    torch.testing.assert_close(
        draw["logits"][0].double(), exact_gradient()["logits"], rtol=1e-4, atol=0
    )


COUNTS = [
    dist.Poisson(torch.tensor(2.0)),
    dist.Geometric(torch.tensor(0.3)),
    dist.NegativeBinomial(3, torch.tensor(0.3)),
    dist.Poisson(torch.ones(2)).to_event(1),
]


@pytest.mark.parametrize("fn", COUNTS, ids=lambda fn: type(fn).__name__)
def test_infinite_supports_have_no_exact_reference(fn):
    def counts():
        pyro.sample("count", fn)

    with pytest.raises(pre.EstimatorError, match="'count'.*exact.*TraceEstimator_ELBO") as error:
        pre.gradient_study(counts, counts, estimators={"a": None}, reference="exact", num_draws=2)
    remedy = pre.TraceEstimator_ELBO(num_particles=10)
    assert "TraceEstimator_ELBO(num_particles=10)" in str(error.value)

    def learned():
        rate = pyro.param("rate", torch.tensor(2.0))
        pyro.sample("count", dist.Poisson(rate))

    def prior():
        pyro.sample("count", dist.Poisson(3.0))

    pre.gradient_study(prior, learned, estimators={"a": None}, reference=remedy, num_draws=20)


def test_score_functions_serve_autoguides():
    def normal():
        x = pyro.sample("x", dist.LogNormal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    autoguide = AutoNormal(normal)
    autoguide()
    sampler = Sampler(score_function_call(normal, autoguide, (), {}, True))
    assert not sampler.conditions and sampler.unbiased
