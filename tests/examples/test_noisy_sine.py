"""The noisy sine: it runs, and what its page says of normalisation and of the two losses holds."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from ..compiled.steps import GraphSVI
from ..slow import one_in
from ..statistics import assert_mean


@pytest.fixture(scope="module")
def sine(example) -> ModuleType:
    return example("noisy_sine")


def test_smoke(sine, tmp_path, capsys):
    sine.main(sine.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 14
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    # Without batch normalisation a minibatch doesn't move the prediction.
    assert ((table["jitter"] > 0) == table["network"].str.contains("BatchNorm")).all()
    gradients = pd.read_csv(tmp_path / "gradients.csv")
    assert set(gradients["estimator"]) == {"Pathwise", "ScoreFunction"}
    assert len(gradients) == 12
    for name in ("picture.png", "curves.png", "table.md", "gradients.md"):
        assert (tmp_path / name).stat().st_size > 0
        assert f"wrote {tmp_path / name}" in printed


def test_batch_norm_cancels_scale_and_slope_of_one_input(sine):
    """Every unit of the first layer starts as the standardised input, or as minus it."""
    x, _ = sine.data(64)
    standardised = (x - x.mean()) / x.std(correction=0)
    for scaling in sine.INPUTS:
        net = sine.Network(scaling, batch_norm=True)
        with torch.no_grad():
            net.body[0].weight.uniform_(0.2, 1.0)[:32].neg_()
        normalised = net.body[:2]((x - net.offset) / net.unit)
        expected = standardised * net.body[0].weight.sign().T
        # Up to the eps of batch normalisation against the variance.
        torch.testing.assert_close(normalised, expected, rtol=2e-3, atol=1e-5)


def test_a_standardised_input_has_mean_zero_and_deviation_one(sine):
    offset, unit = sine.INPUTS["standardised"]
    x = (torch.linspace(0, sine.END, 10_001) - offset) / unit
    torch.testing.assert_close(x.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_looking_at_a_network_leaves_it_as_it_was(sine):
    net = sine.Network("standardised", batch_norm=True)
    before = net.body[1].running_mean.clone()
    x, y = sine.data(100)
    sine.predictions(net)
    sine.quality(net, x, y)
    sine.in_training(net, x, draws=2)
    sine.gradients(net, x, y, draws=2, seed=0)
    assert net.training and net.body[1].training
    assert net.body[1].running_mean.equal(before)


def test_the_loss_decides_what_the_scale_becomes(sine):
    train, (x, y) = sine.data(500), sine.data(2000)
    residuals = {}
    for loss in sine.LOSSES:
        pyro.set_rng_seed(1)
        net = sine.Network("standardised", batch_norm=False)
        curve = sine.fit(net, loss, train, 400, 0.01)
        fn = net.eval().distribution(x)
        residuals[loss] = ((y - fn.mean) / fn.stddev).square().mean().item()
        collapsed = curve["scale_ratio"].iloc[-1] < 0.15
        assert collapsed == (loss == "error of the sample")
    # By the likelihood the scale is the deviation from the mean, whatever the mean has learned.
    assert 0.75 < residuals["likelihood"] < 1.35
    assert residuals["error of the sample"] > 50


@pytest.mark.parametrize("program", ["error_of_sample", "through_site"])
def test_both_programs_of_the_sample_have_the_expectation_of_the_closed_form(sine, program):
    pyro.clear_param_store()
    x, y = sine.data(20)
    programs = sine.Programs(sine.Network("0 to 1", batch_norm=False, hidden=4))
    guide = programs.prior_as_guide if program == "through_site" else programs.no_guide
    elbo = Trace_ELBO()

    def gradient(model, guide) -> torch.Tensor:
        programs.net.zero_grad()
        elbo.loss_and_grads(model, guide, x, y)
        return torch.cat([p.grad.flatten() for p in programs.net.head.parameters()])

    exact = gradient(programs.expected_error, programs.no_guide).clone()
    draws = torch.stack([gradient(getattr(programs, program), guide).clone() for _ in range(300)])
    assert_mean(draws, exact)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("loss", one_in(2, ["likelihood", "error of the sample"]))
def test_a_graph_of_the_step_trains_alike(sine, loss, batch_norm):
    """With the running statistics of batch normalisation.

    It takes out the biases before it, so that their gradients are nothing but rounding, of which Adam
    makes steps: these biases and the running means that they shift are compared with nothing.
    """
    train = sine.data(100)

    def trained(svi) -> tuple[pd.DataFrame, dict[str, torch.Tensor]]:
        pyro.set_rng_seed(1)
        net = sine.Network("0 to 1", batch_norm, hidden=8)
        return sine.fit(net, loss, train, 4, 0.01, svi=svi), net.state_dict()

    (eager, state), (graph, of_graph) = trained(SVI), trained(GraphSVI)
    assert eager["nll"].nunique() == 5
    if not batch_norm:
        pd.testing.assert_frame_equal(graph, eager, rtol=1e-4)
    shifted = ("body.0.bias", "body.3.bias", "body.1.running_mean", "body.4.running_mean")
    for name, value in state.items():
        if not (batch_norm and name in shifted):
            torch.testing.assert_close(of_graph[name], value, rtol=1e-4, atol=1e-5, msg=name)
