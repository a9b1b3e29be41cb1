"""Sigmoid belief nets: the ELBO of two layers is a sum over all units, and training raises it."""

from __future__ import annotations

import itertools
from types import ModuleType

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli

import pyro_reparam_ext as pre

UNITS, PIXELS = 3, 4


@pytest.fixture(scope="module")
def script(example) -> ModuleType:
    return example("sigmoid_belief_net")


@pytest.fixture(scope="module")
def candidates(example) -> ModuleType:
    return example("sigmoid_belief_net_candidates")


@pytest.fixture(scope="module")
def models(example) -> ModuleType:
    return example("sigmoid_belief_net_models")


def test_smoke(script, candidates, tmp_path, capsys):
    script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for ending in (".md", ".csv", ".png", "_curves.csv"):
        assert f"wrote {tmp_path / 'digits_1_linear'}{ending}" in printed
    curves = pd.read_csv(tmp_path / "digits_1_linear_curves.csv")
    assert np.isfinite(curves["elbo"]).all()
    assert tuple(curves["estimator"].unique()) == candidates.FEW
    assert curves["step"].unique().tolist() == [0, 1, 2, 3]


@pytest.fixture(params=["linear", "nonlinear"])
def net(models, request):
    torch.manual_seed(1)
    connection = models.CONNECTIONS[request.param]
    return models.BeliefNet(torch.rand(PIXELS), units=UNITS, layers=2, connection=connection)


def log_prob(logits: Tensor, value: Tensor) -> Tensor:
    return Bernoulli(logits=logits).log_prob(value).sum(-1)


def test_the_elbo_of_two_layers_is_a_sum_over_all_units(net):
    x, prior = torch.bernoulli(torch.full((2, PIXELS), 0.5)), torch.randn(UNITS)
    pyro.param("prior", prior.clone())
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=UNITS)))
    z1, z2 = states.repeat_interleave(len(states), 0), states.repeat(len(states), 1)
    total = 0.0
    with torch.no_grad():
        for pixels in x:
            q = log_prob(net.up[0](pixels - net.mean), z1) + log_prob(net.up[1](2 * z1 - 1), z2)
            p = log_prob(prior, z2) + log_prob(net.down[1](2 * z2 - 1), z1)
            p = p + log_prob(net.down[0](2 * z1 - 1) + net.bias, pixels)
            total += (q.exp() * (q - p)).sum().item()
    elbo = pre.TraceEstimator_ELBO(pre.Enumeration(), max_plate_nesting=1)
    assert elbo.loss(net.model, net.guide, x) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("label", ["LeaveOneOut, 2 particles", "ARMS, 4 samples", "LocalExpectation"])
def test_evaluations_are_those_of_the_elbo(candidates, models, label):
    net = models.BeliefNet(
        torch.rand(PIXELS), units=UNITS, layers=2, connection=models.CONNECTIONS["linear"]
    )
    elbo = candidates.make_elbo(label)
    study = pre.gradient_study(
        net.model, net.guide, torch.ones(2, PIXELS), estimators={label: elbo}, num_draws=2
    )
    found = study.summary().loc[label, "evaluations"]
    assert candidates.evaluations(label, UNITS, 2) == found


def test_training_raises_the_training_elbo(script, tmp_path):
    options = ["--steps", "60", "--runs", "1", "--learning-rate", "0.01", "--layers", "2"]
    script.main(script.parse([*options, "--estimators", "DisARM", "--out", str(tmp_path)]))
    curve = pd.read_csv(tmp_path / "digits_2_linear_curves.csv")["elbo"]
    assert curve.iloc[-1] > curve.iloc[0] + 1
