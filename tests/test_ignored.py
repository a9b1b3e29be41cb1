"""Estimators that Pyro's own ELBOs ignore: one warning for each SVI, and none anywhere else."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    SVI,
    JitTrace_ELBO,
    Predictive,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

import pyro_reparam_ext as pre

PYROS = [Trace_ELBO, TraceGraph_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, RenyiELBO]


def model():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))


def plain(**infer):
    loc = pyro.param("loc", torch.zeros(()))
    pyro.sample("z", dist.Normal(loc, 1.0), infer=infer)


def made_in_the_guide():
    plain(estimator=pre.ScoreFunction())


GUIDES = [
    ("in the guide", lambda: made_in_the_guide),
    ("config_estimator", lambda: pre.config_estimator(plain, {"z": pre.ScoreFunction()})),
    ("of an autoguide", lambda: pre.config_estimator(AutoNormal(model), pre.ScoreFunction())),
    (
        "of a module",
        lambda: pre.config_estimator(poutine.scale(plain, 2.0), lambda site: pre.Pathwise()),
    ),
]
guides = pytest.mark.parametrize("make", [g[1] for g in GUIDES], ids=[g[0] for g in GUIDES])


def caught(run):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in record if "is ignored by" in str(w.message)]


@guides
@pytest.mark.parametrize("elbo", PYROS)
def test_warns_once(elbo, make):
    particles = 2 if elbo is RenyiELBO else 1
    svi = SVI(model, make(), Adam({}), elbo(num_particles=particles))
    (message,) = caught(lambda: [svi.step() for _ in range(3)])
    assert elbo.__name__ in message and "TraceEstimator_ELBO" in message
    assert "ScoreFunction" in message or "Pathwise" in message


def test_warns_for_each_svi():
    def steps():
        for _ in range(2):
            SVI(model, made_in_the_guide, Adam({}), Trace_ELBO()).step()

    assert len(caught(steps)) == 2


def test_warns_where_a_loss_function_is_given():
    svi = SVI(model, made_in_the_guide, Adam({}), Trace_ELBO().differentiable_loss)
    assert len(caught(svi.step)) == 1


def test_warns_under_the_jit():
    svi = SVI(model, made_in_the_guide, Adam({}), JitTrace_ELBO(ignore_jit_warnings=True))
    assert len(caught(lambda: [svi.step() for _ in range(2)])) == 1


def failing():
    raise ValueError("mine")


@guides
@pytest.mark.parametrize(
    "run",
    [
        lambda guide: SVI(model, guide, Adam({}), pre.TraceEstimator_ELBO()).step(),
        lambda guide: SVI(model, guide, Adam({}), pre.TraceEstimator_ELBO(num_particles=2)).step(),
        lambda guide: SVI(
            model, guide, Adam({}), pre.TraceEstimator_ELBO(vectorize_particles=False)
        ).step(),
        lambda guide: SVI(model, guide, Adam({}), pre.TraceEstimator_ELBO().differentiable_loss).step(),
        lambda guide: SVI(model, guide, Adam({}), Trace_ELBO()).evaluate_loss(),
        lambda guide: Trace_ELBO().loss(model, guide),
        lambda guide: poutine.trace(guide).get_trace(),
        lambda guide: poutine.trace(guide, param_only=True).get_trace(),
        lambda guide: Predictive(model, guide=guide, num_samples=3)(),
        lambda guide: pre.gradient_study(
            model,
            guide,
            estimators={"ours": None, "Pyro's": Trace_ELBO()},
            num_draws=4,
            progress=False,
        ),
    ],
    ids=[
        "ours",
        "particles",
        "loop",
        "loss function",
        "evaluate_loss",
        "loss",
        "trace",
        "parameters",
        "Predictive",
        "study",
    ],
)
def test_does_not_warn(make, run):
    assert caught(lambda: run(make())) == []


@guides
def test_does_not_warn_while_a_cause_is_looked_for(make):
    guide = make()
    pyro.param("loc", torch.zeros(()))
    svi = SVI(failing, guide, Adam({}), pre.TraceEstimator_ELBO())

    def run():
        with pytest.raises(ValueError, match="mine"):
            svi.step()

    assert caught(run) == []


def test_does_not_warn_for_estimators_that_are_made_outside():
    def run():
        svi = SVI(model, plain, Adam({}), Trace_ELBO())
        svi.step()
        pre.DisARM()
        svi.step()

    assert caught(run) == []


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO])
def test_does_not_warn_for_what_a_reparameteriser_writes(elbo):
    guide = poutine.reparam(plain, {"z": pre.reparam.StandardizeReparam(guide=True)})
    svi = SVI(model, guide, Adam({}), elbo())
    assert caught(svi.step) == []
