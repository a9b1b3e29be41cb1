"""The example of estimators from first principles: its formulas, its draws, the package's draws."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from ..statistics import assert_mean, assert_p

DRAWS = 20_000


@pytest.fixture(scope="module")
def scratch(example) -> ModuleType:
    return example("estimators_from_scratch")


# Name -> the parameters, and the expectation at given ones.
CASES = {
    "fixed law": ((2.0,), lambda e, t: e.fixed_law(t)),
    "square": ((1.5, 0.8), lambda e, t, s: e.square(t, s)),
    "wave": ((0.4,), lambda e, t: e.wave(t, 1.3)),
    "binary": ((0.7,), lambda e, a: e.binary(a)),
}


def make(scratch: ModuleType, case: str, *moved: float) -> object:
    at, build = CASES[case]
    return build(scratch, *(moved or at))


def test_smoke(scratch, tmp_path: Path, capsys):
    scratch.main(scratch.parse(["--smoke", "--compile", "--out", str(tmp_path)]))
    measured = pd.read_csv(tmp_path / "measured.csv")
    assert len(measured) == 1 + 8 + 2 + 7
    for p in measured[["from scratch: p of mean", "package: p of mean"]].to_numpy().flatten():
        assert_p(p)
    assert "leave-one-out" in (tmp_path / "table.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "nothing is trained" in printed
    for name in ("table.csv", "variance.md", "convergence.md", "picture.png"):
        assert (tmp_path / name).stat().st_size > 0
        assert f"wrote {tmp_path / name}" in printed


@pytest.mark.parametrize("case", CASES)
def test_means_and_variances_are_those_of_the_mathematics(scratch, case):
    expectation = make(scratch, case)
    package = scratch.by_pyro(expectation, DRAWS, seed=0)
    for label, both in scratch.estimators(expectation).items():
        truth = expectation.truths[label]
        mean, variance = (torch.tensor(m, dtype=torch.double) for m in (truth.mean, truth.variance))
        for draws in (scratch.gradients(expectation, both.loss, DRAWS), package[label]):
            assert_mean(draws, mean)
            assert_mean((draws - mean).square(), variance)


@pytest.mark.parametrize("case", CASES)
def test_exact_gradients_are_derivatives_of_the_expectation(scratch, case):
    expectation, step = make(scratch, case), 1e-5
    at = list(expectation.at.values())
    for i, gradient in enumerate(expectation.gradient):
        ends = []
        for sign in (1, -1):
            moved = [v + sign * step * (i == j) for j, v in enumerate(at)]
            ends.append(make(scratch, case, *moved).mean)
        assert np.isclose((ends[0] - ends[1]) / (2 * step), gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", ["square", "wave"])
def test_closed_forms_agree_with_quadrature(scratch, case):
    expectation = make(scratch, case)
    loc, scale = [*expectation.at.values(), 1.0][:2]
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(80))
    weights = weights / weights.sum()
    x = (loc + scale * nodes).requires_grad_()
    f = expectation.cost(x)
    (slope,) = torch.autograd.grad(f.sum(), x)
    f, pairs = f.detach(), torch.outer(weights, weights)
    for i in range(len(expectation.at)):
        score = (nodes, nodes**2 - 1)[i] / scale
        draws = {
            "score function": (f * score, weights),
            "baseline E[f]": ((f - expectation.mean) * score, weights),
            "leave-one-out, 2 samples": ((f - f[:, None]) * (score - score[:, None]) / 2, pairs),
            "pathwise": (slope * (1, nodes)[i], weights),
        }
        for label, truth in expectation.truths.items():
            values, weight = draws[label]
            mean = (weight * values).sum().item()
            variance = (weight * (values - mean) ** 2).sum().item()
            assert mean == pytest.approx(truth.mean[i], rel=1e-8)
            assert variance == pytest.approx(truth.variance[i], rel=1e-8)


def test_which_estimators_are_unbiased(scratch):
    for case in CASES:
        expectation = make(scratch, case)
        for label, truth in expectation.truths.items():
            biased = not np.allclose(truth.mean, expectation.gradient, rtol=1e-9, atol=1e-12)
            assert biased == label.startswith(("straight-through", "Gumbel-Softmax"))


def test_sampling_blocks_the_gradient(scratch):
    with pytest.raises(RuntimeError, match="does not require grad"):
        scratch.gradients(scratch.square(2.0, 1.0), scratch.derivative_inside, 10)


def test_score_functions_and_paths_each_win_somewhere(scratch):
    variance = {k: scratch.wave(0.5, k).truths for k in (0.5, 2.0)}
    assert variance[0.5]["pathwise"].variance < variance[0.5]["score function"].variance
    assert variance[2.0]["pathwise"].variance > variance[2.0]["score function"].variance


def test_errors_fall_with_the_root_of_the_samples_unless_there_is_a_bias(scratch):
    # An error by 300 repetitions is right to 4 %, a slope to 0.013.
    curves = scratch.convergence(scratch.binary(1.0), [2, 20, 200], 300)
    fits = scratch.slopes(curves).set_index("estimator")
    for label in ("score function", "baseline E[f]", "leave-one-out, 2 samples"):
        assert fits.loc[label, "slope"] == pytest.approx(-0.5, abs=0.1)
    assert fits.loc["straight-through", "slope"] > -0.2
    assert fits.loc["straight-through", "error then"] >= 0.9 * fits.loc["straight-through", "bias"]
