"""What is meant for a guide, put on a model; and configurations that match their own noise."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    Predictive,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoDelta, AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import GumbelMaxReparam, InverseCDFReparam, StandardizeReparam

ELBOS = [Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO, pre.TraceEstimator_ELBO]


def model():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))


def guide():
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 1.0))


def with_guide_option(program, reparam=StandardizeReparam):
    return poutine.reparam(program, config={"z": reparam(guide=True)})


# Pyro wraps the error of a log density.
raises = pytest.raises(ValueError, match=r"site 'z'.*guide=True.*On a model give \w+Reparam\(\)")


@pytest.mark.parametrize("reparam", [StandardizeReparam, InverseCDFReparam])
@pytest.mark.parametrize("elbo", ELBOS)
def test_with_a_plain_guide(elbo, reparam):
    with raises:
        elbo().loss(with_guide_option(model, reparam), guide)


@pytest.mark.filterwarnings("ignore:Found auxiliary vars in the model")
@pytest.mark.parametrize("elbo", ELBOS)
def test_on_both(elbo):
    with raises:
        elbo().loss(with_guide_option(model), with_guide_option(guide))


def test_of_two_kinds_on_both():
    with raises:
        Trace_ELBO().loss(with_guide_option(model, InverseCDFReparam), with_guide_option(guide))


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta])
def test_with_an_autoguide(auto):
    handled = with_guide_option(model)
    with raises:
        Trace_ELBO().loss(handled, auto(handled))


def test_under_nuts():
    mcmc = MCMC(NUTS(with_guide_option(model)), num_samples=2, warmup_steps=2, disable_progbar=True)
    with raises:
        mcmc.run()


def test_conditioned():
    with raises:
        poutine.condition(with_guide_option(model), data={"z": torch.tensor(1.0)})()


def test_a_guide_at_values_of_the_model():
    def amortised(observations=None):
        guide()

    elbo = ReweightedWakeSleep(num_particles=2, insomnia=0.5, model_has_params=False)
    with pytest.raises(pre.EstimatorError, match="ReweightedWakeSleep, leave 'z' out"):
        elbo.loss_and_grads(lambda observations=None: model(), with_guide_option(amortised))


def test_legitimate_uses():
    handled = with_guide_option(guide)
    trace = poutine.trace(handled).get_trace()
    again = poutine.trace(poutine.replay(handled, trace=trace)).get_trace()
    assert torch.equal(again.log_prob_sum(), trace.log_prob_sum())
    noise = {"z_standard": torch.tensor(2.0)}
    value = poutine.trace(poutine.condition(handled, data=noise)).get_trace().nodes["z"]["value"]
    assert value.item() == 2.5
    assert Predictive(model, guide=handled, num_samples=3)()["x"].shape[0] == 3
    assert Trace_ELBO(num_particles=5, vectorize_particles=True).loss(model, handled) < 1e3


@pytest.mark.parametrize("on_guide", [False, True])
@pytest.mark.parametrize(
    "make, reparam",
    [
        (lambda: dist.Normal(10.0, 5.0), StandardizeReparam),
        (lambda: dist.Uniform(1.0, 2.0), InverseCDFReparam),
        (lambda: dist.Bernoulli(0.5), GumbelMaxReparam),
    ],
)
def test_a_configuration_that_matches_the_noise(make, reparam, on_guide):
    instance = reparam(guide=on_guide)
    program = poutine.reparam(lambda: pyro.sample("z", make()), config=lambda site: instance)
    if reparam is GumbelMaxReparam:  # the keys are no site that it serves, but left alone
        assert program() in (0, 1)
    for _ in range(2):
        assert set(poutine.trace(program).get_trace().nodes) == {
            *("_INPUT", "_RETURN", "z", f"z_{reparam.suffix}")
        }


def test_a_site_with_the_name_of_noise_is_served():
    config = {name: StandardizeReparam() for name in ("z", "my_standard")}
    config["u_uniform"] = StandardizeReparam()
    config["u"] = InverseCDFReparam()

    def program():
        pyro.sample("my_standard", dist.Normal(1.0, 2.0))
        pyro.sample("u", dist.Normal(1.0, 2.0))

    nodes = poutine.trace(poutine.reparam(program, config=config)).get_trace().nodes
    assert "my_standard_standard" in nodes and "u_uniform_standard" in nodes
