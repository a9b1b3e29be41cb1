"""Studies of real models: the Bernoulli VAE on digits, frozen late in training, and two layers."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from sklearn.datasets import load_digits

import pyro_reparam_ext as pre

from ..slow import slow
from .programs import DigitsVAE, TwoLayers


def _images(count):
    return torch.tensor(load_digits().data[:count] / 16.0, dtype=torch.float32)


@pytest.fixture(scope="module")
def summary():
    pyro.clear_param_store()
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
        torch.manual_seed(0)
        images = _images(1500)
        vae = DigitsVAE()
        elbo = pre.TraceEstimator_ELBO(pre.LeaveOneOut(), num_particles=4)
        svi = SVI(vae.model, vae.guide, Adam({"lr": 1e-3}), elbo)
        for _ in range(2000):
            svi.step(images[torch.randint(len(images), (50,))].bernoulli())
        study = pre.gradient_study(
            vae.model,
            vae.guide,
            images[:50].bernoulli(),
            num_draws=500,
            reference="local expectation",
            params=lambda name: name.startswith("encoder"),
            estimators={
                "leave one out": pre.LeaveOneOut(),
                "DisARM": pre.DisARM(),
                "local expectation": pre.LocalExpectation(),
                "Gumbel-Softmax": pre.GumbelSoftmax(1.0, score="discrete"),
            },
        )
    pyro.clear_param_store()
    return study.summary()


@slow
def test_disarm_beats_leave_one_out_at_equal_evaluations(summary):
    assert summary.evaluations["DisARM"] == summary.evaluations["leave one out"] == 2
    assert summary.variance_high["DisARM"] < summary.variance_low["leave one out"]


def test_local_expectation_has_a_tenth_of_the_variance(summary):
    assert summary.variance["local expectation"] <= summary.variance["leave one out"] / 10


def test_the_bias_of_gumbel_softmax_is_reported_as_large(summary):
    assert summary.bias_z["Gumbel-Softmax"] > 10
    assert summary.relative_bias["Gumbel-Softmax"] > 0.5


def test_unbiased_estimators_show_no_bias(summary):
    assert (summary.bias_z[["leave one out", "DisARM"]] < 5).all()


def test_all_of_them_are_batched(summary):
    assert summary.batched.all()


def test_two_layers_of_disarm_have_a_fraction_of_the_variance_of_trace_elbo():
    program = TwoLayers()
    study = pre.gradient_study(
        program.model,
        program.guide,
        _images(20).bernoulli(),
        num_draws=300,
        params=lambda name: name.startswith("encoder"),
        reference="local expectation",
        estimators={
            "Trace_ELBO": Trace_ELBO(),
            "DisARM": pre.DisARM(),
            "local expectation": pre.LocalExpectation(),
        },
    )
    summary = study.summary()
    assert summary.evaluations["DisARM"] == 3
    assert summary.bias_z["DisARM"] < 5
    assert summary.variance_low["Trace_ELBO"] > 15 * summary.variance_high["DisARM"]
