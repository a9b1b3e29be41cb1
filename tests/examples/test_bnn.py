"""The example of Bayesian networks: it runs, scores predictions rightly, and reads UCI's files."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor

from ..compiled.steps import GraphSVI
from ..slow import one_in
from ..statistics import assert_mean


@pytest.fixture(scope="module")
def bnn(example) -> ModuleType:
    return example("bnn")


@pytest.fixture(scope="module")
def models(example) -> ModuleType:
    return example("bnn_models")


@pytest.fixture(scope="module")
def uci(example) -> ModuleType:
    return example("uci")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set in UCI's format: 40 rows of a constant, a target and two features, and one split."""
    rng = np.random.default_rng(0)
    features = rng.normal(3.0, 2.0, (40, 2))
    target = 100 + 7 * features[:, :1]
    data = tmp_path / "small" / "data"
    data.mkdir(parents=True)
    np.savetxt(data / "data.txt", np.hstack([np.full((40, 1), 5.0), target, features]))
    rows = rng.permutation(40)
    indices = {"features": [0, 2, 3], "target": [1], "train_0": rows[8:], "test_0": rows[:8]}
    for name, values in indices.items():
        np.savetxt(data / f"index_{name}.txt", values, fmt="%.18e")
    return tmp_path


@pytest.mark.parametrize("digits", [False, True])
def test_smoke(bnn, digits, folder, tmp_path, capsys):
    data = ("--digits",) if digits else ("--data-dir", str(folder), "--set", "small")
    bnn.main(bnn.parse(["--smoke", "--hidden", "5", "--out", str(tmp_path), *data]))
    name = "digits" if digits else "small"
    printed = capsys.readouterr().out
    for ending in (".png", ".nc", ".csv", ".md", "_gradients.csv", "_gradients.md"):
        path = tmp_path / f"{name}{ending}"
        assert f"wrote {path}" in printed
        assert path.stat().st_size > 0
    table = pd.read_csv(tmp_path / f"{name}.csv").set_index("method")
    assert table.index.tolist() == list(bnn.METHODS)
    assert np.isfinite(table.to_numpy(float)).all()
    gradients = pd.read_csv(tmp_path / f"{name}_gradients.csv")
    assert len(gradients) == 2 * len(bnn.METHODS)
    assert (gradients["relative_variance"] > 0).all()
    predictions = az.from_netcdf(tmp_path / f"{name}.nc")
    num_test = len(predictions.observed_data["y"])
    assert num_test == (397 if digits else 8)
    for group in (predictions.posterior_predictive, predictions.log_likelihood):
        assert group["y"].shape == (1, 100, num_test)
    if not digits:  # in the target's units, far from standardised ones
        assert abs(predictions.posterior_predictive["y"].mean() - 120) < 30


def test_smoke_of_guides(bnn, folder, tmp_path, capsys):
    """The parameters of a network of 3-5-1: 26 of weights and biases, and the noise."""
    data = ("--data-dir", str(folder), "--set", "small")
    bnn.main(bnn.parse(["--guides", "--smoke", "--hidden", "5", "--out", str(tmp_path), *data]))
    assert f"wrote {tmp_path / 'small_guides.md'}" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "small_guides.csv").set_index("guide")
    assert np.isfinite(table.to_numpy(float)).all()
    rest = 27 + 7  # all locations, and scales of the biases and the noise
    k_tied = rest + 2 * (5 + 3) + 1 * (1 + 5)
    matrix_normal = rest + (5 + 25) + (3 + 9) + (1 + 1) + (5 + 25)
    expected = {"mean-field": 54, "k-tied": k_tied, "matrix normal": matrix_normal}
    assert table["parameters"].to_dict() == expected


def test_the_noise_of_each_example_has_less_variance_and_no_bias(bnn, models, uci):
    """The claim of the page: both contexts beat one draw, at one evaluation."""
    args = bnn.parse(["--draws", "200", "--batch-size", "100"])
    problem = models.RegressionProblem(uci.diabetes(), hidden=20)
    study = bnn.study_of(problem, problem.make_guide(), args)
    summary = study.summary()
    for label in ("eight draws", "Flipout", "local reparameterisation"):
        assert summary.loc[label, "variance_high"] < summary.loc["one draw", "variance_low"]
    assert summary["unbiased"].all()
    assert summary["evaluations"].tolist() == [1, 8, 1, 1]
    # The sum over each parameter: single coordinates, of units hardly ever active, have heavy tails.
    draws = study.to_inferencedata().gradients
    sums = {
        label: torch.tensor(
            np.stack([x.values[0].reshape(args.draws, -1).sum(1) for x in rows.values()], 1)
        )
        for label, rows in draws.groupby("estimator")
    }
    for label in ("one draw", "Flipout", "local reparameterisation"):
        assert_mean(sums[label] - sums["eight draws"], torch.zeros(len(study.names)))


def test_training_raises_the_elbo_and_leaves_the_network_as_it_was(bnn, models, uci):
    args = bnn.parse(["--steps", "60"])
    problem = models.RegressionProblem(uci.diabetes(), hidden=20)
    before = {name: value.clone() for name, value in problem.bnn.initial_values().items()}
    start = problem.elbo_per_example(problem.make_guide())
    run = bnn.Trained(problem, bnn.METHODS[bnn.REFERENCE_RUN], args)
    assert run.curve["elbo"].iloc[-1] > start + 0.3
    assert list(run.snapshots) == [3, 15, 60]
    for name, value in problem.bnn.initial_values().items():
        assert value.equal(before[name])


def predict(problem, fn: dist.TorchDistribution, monkeypatch: pytest.MonkeyPatch) -> az.InferenceData:
    monkeypatch.setattr(problem, "test_distribution", lambda guide: fn)
    return problem.predict(None)


def test_scores_of_a_regression(models, uci, monkeypatch):
    """The mixture of two normals has a closed density, mean and quantiles."""
    torch.manual_seed(0)
    data = uci.diabetes()
    problem = models.RegressionProblem(data, hidden=2)
    draws = 4000
    locs = torch.tensor([-0.5, 0.5]).repeat(draws // 2)[:, None].expand(draws, len(data.test_y))
    predictions = predict(problem, dist.Normal(locs, torch.full((draws, 1), 2.0)), monkeypatch)
    scores = problem.scores(predictions)
    y = data.test_y
    densities = torch.stack([dist.Normal(m, 2.0).log_prob(y).exp() for m in (-0.5, 0.5)]).mean(0)
    exact = densities.log().mean() - data.scale.log()
    assert scores["log likelihood"] == pytest.approx(float(exact), abs=1e-3)
    rmse = y.square().mean().sqrt() * data.scale
    assert scores["RMSE"] == pytest.approx(float(rmse), rel=1e-4)
    # 90 % of this mixture lies within 3.39: all but few of the standardised targets.
    inside = (y.abs() < 3.39).float().mean()
    assert scores["coverage"] == pytest.approx(float(inside), abs=0.05)


def test_scores_of_a_classification(models, monkeypatch):
    """A forecast of .6 on one of two classes, which comes true for every other image."""
    torch.manual_seed(0)
    problem = models.Classification(0, hidden=2)
    images = len(problem.test_y) // 2 * 2
    problem.test_y = problem.test_y[:images]
    guess = torch.where(torch.arange(images) % 2 == 0, problem.test_y, (problem.test_y + 1) % 10)
    probabilities = torch.full((images, 10), 0.4 / 9)
    probabilities[torch.arange(images), guess] = 0.6
    predictions = predict(problem, dist.Categorical(probabilities.expand(3, -1, -1)), monkeypatch)
    scores = problem.scores(predictions)
    assert scores["accuracy"] == pytest.approx(0.5)
    assert scores["calibration error"] == pytest.approx(0.1, abs=1e-5)
    exact = (math.log(0.6) + math.log(0.4 / 9)) / 2
    assert scores["log likelihood"] == pytest.approx(exact, abs=1e-5)


def test_one_likelihood_serves_batches(models, uci):
    """A batch stands for all examples: its log likelihood is scaled, the prior is not."""
    problem = models.RegressionProblem(uci.diabetes(), hidden=3)
    guide = problem.make_guide()
    trace = poutine.trace(guide).get_trace(problem.x)
    model = poutine.replay(problem.model, trace)
    x, y = problem.x, problem.y
    half = len(x) // 2

    def log_prob(x: Tensor, y: Tensor, site: str) -> Tensor:
        scored = poutine.trace(model).get_trace(x, y)
        scored.compute_log_prob()
        return scored.nodes[site]["log_prob_sum"]

    parts = [log_prob(x[rows], y[rows], "y") for rows in (slice(half), slice(half, 2 * half))]
    whole = log_prob(x[: 2 * half], y[: 2 * half], "y")
    torch.testing.assert_close(sum(parts) / 2, whole)
    torch.testing.assert_close(log_prob(x[:half], y[:half], "0.weight"), log_prob(x, y, "0.weight"))


def test_uci_values(uci, folder):
    data = uci.load(folder, "small")
    assert data.train_x.shape == (32, 3) and data.test_x.shape == (8, 3)
    x = torch.cat([data.train_x, data.test_x])
    assert x[:, 0].eq(0).all()  # the constant
    torch.testing.assert_close(data.train_x[:, 1:].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train_y.std(unbiased=False), torch.tensor(1.0))
    # The target is 100 + 7 times the second feature, so both are the same once standardised.
    torch.testing.assert_close(data.test_y, data.test_x[:, 1], atol=1e-4, rtol=1e-4)
    raw = np.loadtxt(folder / "small" / "data" / "data.txt")[:, 1]
    rows = np.loadtxt(folder / "small" / "data" / "index_test_0.txt").astype(int)
    restored = data.test_y * data.scale + data.loc
    torch.testing.assert_close(restored, torch.tensor(raw[rows], dtype=torch.float32))


def test_diabetes_is_split_by_seed(uci):
    first, again, other = uci.diabetes(0), uci.diabetes(0), uci.diabetes(1)
    assert len(first.train_y) == 332 and len(first.test_y) == 110
    assert first.test_y.equal(again.test_y) and not first.test_y.equal(other.test_y)


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        (lambda data: data.parent.rename(data.parents[1] / "other"), FileNotFoundError, "sets: other"),
        (lambda data: (data / "index_test_0.txt").unlink(), FileNotFoundError, "numbered from 0"),
        (lambda data: (data / "index_target.txt").write_text("4"), ValueError, "from 0 to 3"),
        (lambda data: (data / "index_target.txt").write_text("0 1"), ValueError, "expected one"),
        (
            lambda data: (data / "index_test_0.txt").write_text(
                (data / "index_train_0.txt").read_text()
            ),
            ValueError,
            "32 rows both in training and test set",
        ),
    ],
)
def test_a_bad_folder_is_named(uci, folder, damage, error, match):
    damage(folder / "small" / "data")
    with pytest.raises(error, match=f"small.*{match}"):
        uci.load(folder, "small")


@pytest.mark.parametrize("method", one_in(3, ["eight draws", "Flipout", "local reparameterisation"], 1))
def test_a_graph_of_the_step_trains_alike(bnn, models, uci, method):
    problem = models.RegressionProblem(uci.diabetes(), hidden=5)
    args = bnn.parse(["--steps", "4"])
    curves = []
    for svi in (SVI, GraphSVI):
        args.svi = svi
        pyro.clear_param_store()
        curves.append(bnn.Trained(problem, bnn.METHODS[method], args).curve["elbo"])
    eager, graph = curves
    assert eager.nunique() == 4
    assert graph.tolist() == pytest.approx(eager.tolist(), rel=1e-5)
